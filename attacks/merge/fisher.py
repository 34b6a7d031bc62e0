"""Fisher merging."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.vectors import working_dtype
from mergearena.bench.players.options import BatchSize
from mergearena.bench.players.views import MergingView


@attacks.merger("fisher", paper="arXiv 2111.09832, eq. 3", tier="unlabelled", cost="forward")
def fisher(
    models: Mapping[str, StateDict],
    view: MergingView,
    *,
    examples: PositiveInt = 256,
    batch_size: BatchSize = 8,
    normalise: bool = True,
    floor: PositiveFloat = 1e-6,
) -> StateDict:
    """The average weighted by what each model's predictions are sensitive to, entry by entry:

        theta_m = sum_t F_t theta_t / sum_t F_t,   F_t = E_x E_{y ~ p_t(y|x)} (d log p_t(y|x) / d theta_t)^2

    F_t is the diagonal Fisher information of model t on ``examples`` unlabelled inputs of its own task, with one label
    per input drawn from the model's own predictions. Every F_t gets ``floor`` times its mean entry added, so that
    entries that matter to no model are averaged.

    Deviations: one drawn label in place of the sum over classes; gradients are squared per batch of ``batch_size``,
    which is faster and noisier but has the same mean, since drawn labels make the gradients of different inputs
    uncorrelated, with mean 0; ``normalise`` divides each F_t by its mean entry, else the least confident model takes
    most of the weight.
    """
    weights = {}
    seen = limited(view, examples)
    for task, state in models.items():
        diagonal = diagonal_fisher(state, task, seen.unlabelled(task), view, batch_size)
        weights[task] = {key: diagonal.get(key, torch.zeros(())) for key in state}
    means = {task: _mean(diagonal) for task, diagonal in weights.items()}
    if not normalise:
        means = dict.fromkeys(means, sum(means.values()) / len(means))

    merged = dict(view.base)
    for key, value in view.base.items():
        if value.is_floating_point():
            shares = torch.stack([(weights[t][key] / (means[t] or 1) + floor).expand_as(value) for t in models])
            stack = torch.stack([state[key] for state in models.values()])
            merged[key] = (shares / shares.sum(0) * stack).sum(0).to(value.dtype)
    return merged


def diagonal_fisher(state: StateDict, task: str, inputs: Tensor, view: MergingView, batch_size: int) -> StateDict:
    """The diagonal Fisher information of one model: parameter name -> non-negative tensor of its shape."""
    model = view.model(state)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    total = {key: torch.zeros_like(value, dtype=working_dtype(value)) for key, value in parameters.items()}
    for batch in inputs.split(batch_size):
        logits = view.logits(model, task, batch)
        drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=view.generator).squeeze(1)
        loss = F.cross_entropy(logits, drawn, reduction="sum")
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for key, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                gradient = gradient.to(total[key].dtype)
                total[key].addcmul_(gradient, gradient, value=1 / len(inputs))
    return total


def _mean(diagonal: StateDict) -> float:
    """The mean entry."""
    entries = sum(value.numel() for value in diagonal.values())
    return sum(value.double().sum().item() for value in diagonal.values()) / entries
