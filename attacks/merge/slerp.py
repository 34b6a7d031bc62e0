"""SLERP: along the great circle between two models instead of the chord."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import Share
from mergearena.bench.errors import BadConfig
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import add_task_vector
from mergearena.bench.merging.vectors import TaskVectors, working_dtype
from mergearena.bench.players.views import MergingView

PARALLEL = 0.9995
"""Above this cosine the arc is the chord, and its formula would divide by zero (mergekit's limit)."""


@attacks.merger("slerp", paper="Shoemake 1985; merges of mergekit")
def slerp(
    models: Mapping[str, StateDict],
    view: MergingView,
    *,
    t: Share = 0.5,
    space: Literal["weights", "task-vectors"] = "weights",
) -> StateDict:
    """Per tensor, as one long vector, with Omega the angle between the two models' tensors:

        slerp(v0, v1; t) = sin((1 - t) Omega) / sin(Omega) v0 + sin(t Omega) / sin(Omega) v1

    and plain interpolation where they are parallel or one is zero. ``space=weights`` interpolates the models, as
    mergekit's ``slerp`` does; ``space=task-vectors`` interpolates tau and adds it to theta0, as its ``nuslerp`` does.
    mergekit refuses more than two models; here the k-th is folded in with t = 1/k, so that parallel models
    give their mean, and ``t`` must be left out.

    Raises:
        BadConfig: a ``t`` was given for more than two models.
    """
    if len(models) > 2 and t != 0.5:
        raise BadConfig(f"slerp(t={t}) lies between two models, but {len(models)} are merged; leave t out")
    shares = [t] if len(models) == 2 else [1 / k for k in range(2, len(models) + 1)]
    states = list(models.values())
    if space == "task-vectors":
        combined = TaskVectors(states, view.base).map(lambda _, stack: _fold(list(stack), shares))
        return add_task_vector(view.base, combined, 1.0)
    return {
        key: _fold([state[key].to(working_dtype(value)) for state in states], shares).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }


def _fold(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    pairs = zip(values[1:], shares, strict=True)
    return reduce(lambda merged, pair: _slerp(merged, *pair), pairs, values[0].clone())


def _slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    a, b = first.flatten().double(), second.flatten().double()
    length = a.norm() * b.norm()
    cosine = (a @ b / length).clamp(-1, 1) if length > 0 else torch.ones(())
    if cosine.abs() > PARALLEL:
        return torch.lerp(first, second, t)
    angle = cosine.acos()
    left, right = (((1 - t) * angle).sin() / angle.sin()).item(), ((t * angle).sin() / angle.sin()).item()
    return left * first + right * second
