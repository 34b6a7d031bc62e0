"""Recalibration of norm layers: the merged model's channel statistics, brought back to those of its parents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.attacks.recover.distill import teacher
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView

Moments = dict[str, Tensor]
"""Norm layer -> mean and mean square of every channel of its output, 2 x C, float64."""


@attacks.recovery("norm-recalibrate", paper="after REPAIR, arXiv 2211.08403, sec. 4", tier="unlabelled", cost="forward")
def norm_recalibrate(merged: StateDict, view: AttackerView, *, k: PositiveInt | None = 64) -> StateDict:
    """Rescale and shift every channel of every norm layer's output, so that over the examples of all tasks together
    its mean and variance are those of the models that the tasks belong to:

        w <- w r,   b <- mu* + (b - mu) r,   r = sigma* / sigma

    mu, sigma: of the merged model's output; mu*, sigma*: pooled over the tasks, each task's examples run through its
    own model (the released one, or a donor). An RMS norm has no bias: r is the ratio of root mean squares. Batch norms
    re-estimate their running statistics first. Each layer is corrected as the forward pass leaves it and passes its
    corrected output on, so every layer meets its targets exactly; correcting all layers by statistics from before any
    was corrected ruins a post-norm model, whose every layer reads a norm. Padding counts for nothing. ``k``: read at
    most that many examples per task; those of all tasks run through the model at once. Deviation: REPAIR rescales
    every layer of a convolutional net between two models of one task; here the norm layers of any net whose channels
    are still in the base's order, between models of several tasks.
    """
    seen = limited(view, k)
    inputs = {task: seen.unlabelled(task) for task in view.tasks}
    goals = [moments(view.model(teacher(task, view)), {task: x}, view) for task, x in inputs.items()]
    goal = {name: torch.stack([g[name] for g in goals]).mean(0) for name in goals[0]}
    model = view.model(merged)
    reestimate(model, inputs, view)
    moments(model, inputs, view, goal)
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
def moments(model: nn.Module, inputs: Mapping[str, Tensor], view: AttackerView, goal: Moments | None = None) -> Moments:
    """The moments of every norm layer that one forward pass of all tasks' inputs reaches, each task counting the same.

    Args:
        model: changed in place where there is a ``goal``.
        inputs: task -> examples (k x ...).
        view: runs the model.
        goal: moments that each layer is made to :func:`meet` before the layers after it read its output.

    Returns:
        The moments found, before their own layer's correction and after those of the layers before it.
    """
    longest = max(x.shape[-1] for x in inputs.values())
    joined = torch.cat([F.pad(x, (0, longest - x.shape[-1])) for x in inputs.values()])  # only texts differ in length
    if joined.is_floating_point():
        real = torch.ones(len(joined), dtype=torch.bool)
    else:
        joined = joined[:, (joined != 0).any(0)]
        real = joined != 0
    found: Moments = {}

    def hook_of(name: str) -> Callable[..., Tensor | None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            if name in found:  # a layer that runs again keeps what its first run was given
                return None
            found[name] = moments_of(output, real, [len(x) for x in inputs.values()])
            if goal is None:
                return None
            meet(layer, found[name], goal[name])
            return layer.forward(*args, **kwargs)

        return hook

    hooks = [layer.register_forward_hook(hook_of(name), with_kwargs=True) for name, layer in norms(model).items()]
    view.outputs(model, next(iter(inputs)), joined)  # any task's head will do: no norm reads it
    for hook in hooks:
        hook.remove()
    return found


def moments_of(output: Tensor, real: Tensor, sizes: list[int]) -> Tensor:
    """Mean and mean square (2 x C, float64) of an output (B x ... x C) whose B examples are ``sizes`` per task.

    ``real`` (B, or B x L for texts) is false at padding; an output that is not one per token has none.
    """
    if real.shape != output.shape[: real.ndim]:
        real = real.any(-1)
    parts = [o[r].double().flatten(0, -2) for o, r in zip(output.split(sizes), real.split(sizes), strict=True)]
    return torch.stack([torch.stack([rows.mean(0), rows.square().mean(0)]) for rows in parts]).mean(0)


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
def reestimate(model: nn.Module, inputs: Mapping[str, Tensor], view: AttackerView) -> None:
    """Make every batch norm's running statistics those of the inputs of all tasks, in place."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.reset_running_stats()
        layer.train().momentum = None  # the plain mean over batches
    for task, x in inputs.items():
        for (batch,) in view.suite.batches(x) if layers else ():
            view.outputs(model, task, batch)
    model.eval()
