"""Universal perturbations that a defense trains against: one per task, of bounded norm, or a patch of few pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from mergearena.bench.learning.coefficients import Data
from mergearena.bench.learning.perturbation import Norm, Perturbation, lengths
from mergearena.bench.players.player import Config
from mergearena.bench.players.views import View

MOMENTUM = 0.9
"""Share of the last slopes that the next ones of a patch keep."""


class UniversalConfig(Config):
    """Where perturbations are looked for."""

    perturbation: Literal["patch", "ball"] = "patch"
    """``patch``: few pixels, as far as their range goes; on texts, a point on the edge of the ball. ``ball``: of
    bounded norm, moved by Adam."""
    area: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of a picture's pixels that a patch covers; they need not be neighbours."""
    radius: PositiveFloat = 0.2
    """Of the ball, as a share of the size of the inputs (of token embeddings on texts)."""
    norm: Norm = "linf"
    """Of the ball."""
    pace: PositiveFloat = 0.2
    """Adam's learning rate in the ball, as a share of the radius, per entry; published for DAM: 1e-4."""


class Adversary:
    """One universal perturbation delta per task, which climbs the cross-entropy of f(x + delta) to given answers.

    In the ball, by Adam and projection. A patch is what maximises the slope z with momentum, over the patches P:

        z <- 0.9 z + g / |g|,   delta = argmax over P of <z, delta>,   g = d CE / d delta

    that is, the pixels of the largest |z|, each moved by the whole range along the sign of z, and clipped to it.
    """

    def __init__(self, view: View, model: nn.Module, data: Data, config: UniversalConfig) -> None:
        """Start at no perturbation; ``model`` and the inputs in ``data`` say how large the ball is."""
        self.config = config
        self.shifts = {t: Perturbation(view, model, x, config.radius, config.norm) for t, (x, *_) in data.items()}
        self.slopes = {task: torch.zeros_like(shift.delta) for task, shift in self.shifts.items()}
        self.optimizers = {
            task: torch.optim.Adam([shift.delta], lr=config.pace * per_entry(shift), maximize=True)
            for task, shift in self.shifts.items()
        }

    def ascend(self, model: nn.Module, inputs: Mapping[str, Tensor], answers: Mapping[str, Tensor]) -> None:
        """One step per task; ``inputs`` (B x ...) and ``answers`` (B) by task."""
        for task, shift in self.shifts.items():
            loss = F.cross_entropy(shift.logits(model, task, inputs[task]), answers[task])
            (slope,) = torch.autograd.grad(loss, [shift.delta])
            if self.config.perturbation == "ball":
                shift.delta.grad = slope
                self.optimizers[task].step()
                shift.project()
            else:
                tiny = torch.finfo(slope.dtype).tiny
                z = self.slopes[task].mul_(MOMENTUM).add_(slope / slope.norm().clamp_min(tiny))
                with torch.no_grad():
                    shift.delta.copy_(steepest(z, shift, self.config.area))

    def logits(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task -> class logits B x C of perturbed inputs."""
        return {task: shift.logits(model, task, inputs[task]) for task, shift in self.shifts.items()}


def steepest(z: Tensor, shift: Perturbation, area: float) -> Tensor:
    """The patch, or on texts the point of the ball, with the largest product with z (of delta's shape)."""
    if shift.range is not None:
        low, high = shift.range
        return (high - low) * largest(z, area).sign()
    if shift.norm == "linf":
        return shift.limit * z.sign()
    if shift.norm == "l1":
        return shift.limit * z.sign() * (z.abs() == z.abs().max())
    return shift.limit * z / z.norm().clamp_min(torch.finfo(z.dtype).tiny)


def largest(picture: Tensor, share: float) -> Tensor:
    """The share of pixels of 3 x H x W with the largest magnitudes (sums over colours), at least one; the rest is 0."""
    size = picture.abs().sum(0)
    count = max(1, round(share * size.numel()))
    keep = torch.zeros_like(size).view(-1).index_fill_(0, size.view(-1).topk(count).indices, 1.0)
    return picture * keep.view_as(size)


def per_entry(shift: Perturbation) -> float:
    """What every entry of a perturbation on the edge of its ball is, if all are equal."""
    return shift.limit / lengths(torch.ones(1, shift.delta.numel()), shift.norm).item()
