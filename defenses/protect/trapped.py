"""What a trap sees: the task's loss where a merge would put the weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from mergearena.bench.games.protection.players import DefenderView
from mergearena.bench.learning.training import At, Examples
from mergearena.bench.merging.kernels import add_task_vector, task_vector


def trapped_loss(
    model: nn.Module, weights: Mapping[str, Tensor], s: float, batch: Examples, view: DefenderView, enough: float
) -> Tensor:
    """min(CE(theta0 + s (weights - theta0)), enough), in nats, on a batch of the defender's task.

    ``weights`` are made of the model's parameters, to which gradients flow; beyond ``enough`` none do.
    """
    base = {name: view.base[name] for name in weights}
    merged = At(model, add_task_vector(base, task_vector(dict(weights), base), s))
    inputs, labels = batch[view.task]
    return view.loss(merged, view.task, inputs, labels).clamp(max=enough)
