"""Recalibration of norm layers: the merged model's channel statistics, brought back to those of its parents."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import attacks
from attacks.examples import limited
from attacks.recover.distill import teacher
from bench.checkpoints import StateDict
from bench.game import AttackerView

Moments = dict[str, Tensor]
"""Norm layer -> mean and mean square of every channel of its output, 2 x C, float64."""


@attacks.recovery("norm-recalibrate", paper="after REPAIR, arXiv 2211.08403, sec. 4", tier="unlabelled", cost="forward")
def norm_recalibrate(
    merged: StateDict, view: AttackerView, *, k: PositiveInt | None = None, rounds: PositiveInt = 2
) -> StateDict:
    """Rescale and shift every channel of every norm layer's output, so that over the examples of all tasks together
    its mean and variance are those of the models that the tasks belong to:

        w <- w r,   b <- mu* + (b - mu) r,   r = sigma* / sigma

    mu, sigma: of the merged model's output; mu*, sigma*: pooled over the tasks, each task's examples run through its
    own model (the released one, or a donor). An RMS norm has no bias: r is the ratio of root mean squares. Batch norms
    re-estimate their running statistics first. All layers change at once, ``rounds`` times: the l-th, which reads what
    the ones before it changed, is exact from round l on. ``k``: read at most that many examples per task. Deviation:
    REPAIR rescales every layer of a convolutional net between two models of one task; here the norm layers of any net
    whose channels are still in the base's order, between models of several tasks.
    """
    seen = limited(view, k)
    inputs = {task: seen.unlabelled(task) for task in view.tasks}
    goal = pooled(moments(view.model(teacher(task, view)), task, x, view) for task, x in inputs.items())
    model = view.model(merged)
    reestimate(model, inputs, view)
    for _ in range(rounds):
        ours = pooled(moments(model, task, x, view) for task, x in inputs.items())
        for name, layer in norms(model).items():
            if name in ours:
                meet(layer, ours[name], goal[name])
    return {key: value.detach() for key, value in model.state_dict().items()}


def norms(model: nn.Module) -> dict[str, nn.Module]:
    """The layer norms and RMS norms that have a weight per channel, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.LayerNorm) or "RMSNorm" in type(module).__name__)
        and isinstance(module.weight, Tensor)
        and module.weight.dim() == 1
    }


@torch.no_grad()
def moments(model: nn.Module, task: str, inputs: Tensor, view: AttackerView) -> Moments:
    """The moments of every norm layer that a task's inputs reach."""
    sums: Moments = {}

    def counter(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            rows = output.double().flatten(0, -2)
            found = torch.stack([rows.sum(0), rows.square().sum(0), rows.new_full(rows.shape[1:], len(rows))])
            sums[name] = sums.get(name, 0) + found

        return hook

    hooks = [layer.register_forward_hook(counter(name)) for name, layer in norms(model).items()]
    for (batch,) in view.suite.batches(inputs):
        view.logits(model, task, batch)
    for hook in hooks:
        hook.remove()
    return {name: total[:2] / total[2] for name, total in sums.items()}


def pooled(per_task: Iterable[Moments]) -> Moments:
    """Moments over several tasks, each counting the same."""
    found = list(per_task)
    return {name: torch.stack([m[name] for m in found]).mean(0) for name in found[0]}


@torch.no_grad()
def meet(layer: nn.Module, ours: Tensor, goal: Tensor) -> None:
    """Change a norm layer's weight and bias, in place, so that output moments ``ours`` become ``goal`` (2 x C)."""
    bias = getattr(layer, "bias", None)
    spread, wanted = (m[1] if bias is None else m[1] - m[0].square() for m in (ours, goal))
    # A channel that never varies, or never should, says nothing about its scale.
    ratio = torch.where((spread > 1e-12) & (wanted > 0), (wanted / spread).sqrt(), 1)
    layer.get_parameter("weight").mul_(ratio)
    if bias is not None:
        bias.copy_(goal[0] + (bias - ours[0]) * ratio)


@torch.no_grad()
def reestimate(model: nn.Module, inputs: dict[str, Tensor], view: AttackerView) -> None:
    """Make every batch norm's running statistics those of the inputs of all tasks, in place."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.reset_running_stats()
        layer.train().momentum = None  # the plain mean over batches
    for task, x in inputs.items():
        for (batch,) in view.suite.batches(x) if layers else ():
            view.logits(model, task, batch)
    model.eval()
