"""The Karcher mean: the average of directions on the sphere instead of in space."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import add_task_vector
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("karcher", paper="Karcher 1977; merges of mergekit")
def karcher(
    models: Mapping[str, StateDict],
    view: MergingView,
    *,
    space: Literal["weights", "task-vectors"] = "weights",
    iterations: PositiveInt = 10,
    tolerance: PositiveFloat = 1e-5,
) -> StateDict:
    """Per tensor, as one long vector v_t of length n_t and direction u_t, the point of the sphere nearest to all:

        u = argmin_{|u| = 1} sum_t angle(u, u_t)^2,   v = (1/T sum_t n_t) u

    found by ``u <- exp_u(1/T sum_t log_u(u_t))`` from the mean direction, at most ``iterations`` times or until a step
    is shorter than ``tolerance`` (mergekit's 10 and 1e-5). Of two models of one length it is ``slerp`` half way; unlike
    that, it does not depend on the models' order. Tensors of length 0 have no direction and count for the length
    only; single entries, and directions that cancel, are averaged. ``space=task-vectors`` takes tau instead of theta.
    """
    # Weights are task vectors from zero; adding them to zero rounds once, to the models' dtype.
    origin = view.base if space == "task-vectors" else _zeros(view.base)
    vectors = TaskVectors(list(models.values()), origin)
    mean = vectors.map(
        lambda _, stack: _mean(stack.double().view(len(stack), -1), iterations, tolerance).view(stack.shape[1:])
    )
    merged = add_task_vector(origin, mean, 1.0)
    return {**view.base, **{key: merged[key] for key in mean}}


def _zeros(base: StateDict) -> StateDict:
    return {key: torch.zeros_like(value) for key, value in base.items()}


def _mean(rows: Tensor, iterations: int, tolerance: float) -> Tensor:
    """T x n -> n."""
    lengths = rows.norm(dim=1, keepdim=True)
    directed = lengths.squeeze(1) > 0
    units = rows[directed] / lengths[directed]
    start = units.sum(0)
    if rows.shape[1] == 1 or start.norm() <= tolerance:
        return rows.mean(0)
    return lengths.mean() * spherical_mean(units, start / start.norm(), iterations, tolerance)


def spherical_mean(units: Tensor, start: Tensor, iterations: int, tolerance: float) -> Tensor:
    """The Karcher mean (n) of unit vectors, T x n, by fixed-point steps from a unit vector."""
    mean = start
    for _ in range(iterations):
        cosines = (units @ mean).clamp(-1, 1)
        tangents = units - cosines[:, None] * mean
        sines = tangents.norm(dim=1)
        step = (torch.atan2(sines, cosines) / sines.clamp_min(torch.finfo(sines.dtype).tiny) @ tangents) / len(units)
        length = step.norm()
        if length < tolerance:
            break
        mean = length.cos() * mean + length.sin() * step / length
        mean = mean / mean.norm()
    return mean
