"""NuSLERP: task vectors interpolated along great circles, neuron by neuron."""

from collections.abc import Mapping
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import Share
from mergearena.attacks.merge.slerp import PARALLEL
from mergearena.bench.errors import BadConfig
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import add_task_vector
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("nuslerp", paper="Shoemake 1985; merges of mergekit")
def nuslerp(
    models: Mapping[str, StateDict], view: MergingView, *, t: Share = 0.5, per: Literal["row", "column"] = "row"
) -> StateDict:
    """theta_m = theta0 + tau_m, each row of tau_m on the arc between the two task vectors' rows, Omega their angle:

        tau_m = sin((1 - t) Omega) / sin(Omega) tau_1 + sin(t Omega) / sin(Omega) tau_2

    and plain interpolation where rows are parallel or one is zero. A row is what one output reads; ``per=column``
    takes what one input writes, and whole tensors are ``slerp(space=task-vectors)``. A vector is one row, a convolution
    has one per output channel. mergekit refuses more than two models; here the k-th is folded in with t = 1/k, as in
    ``slerp``, and ``t`` must be left out.

    Raises:
        BadConfig: a ``t`` was given for more than two models.
    """
    if len(models) > 2 and t != 0.5:
        raise BadConfig(f"nuslerp(t={t}) lies between two models, but {len(models)} are merged; leave t out")
    shares = [t] if len(models) == 2 else [1 / k for k in range(2, len(models) + 1)]

    def fold(_: str, stack: Tensor) -> Tensor:
        rows = _rows(stack, per)
        folded = reduce(lambda merged, pair: slerp_rows(merged, *pair), zip(rows[1:], shares, strict=True), rows[0])
        shaped = folded if per == "row" or stack.ndim < 3 else folded.T
        return shaped.reshape(stack.shape[1:]).to(stack.dtype)

    combined = TaskVectors(list(models.values()), view.base).map(fold)
    return add_task_vector(view.base, combined, 1.0)


def _rows(stack: Tensor, per: Literal["row", "column"]) -> Tensor:
    """T x shape -> T x r x n, in float64."""
    exact = stack.double()
    if stack.ndim < 3:
        return exact.reshape(len(stack), 1, -1)
    return exact.flatten(2) if per == "row" else exact.flatten(2).mT


def slerp_rows(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Spherical interpolation of r x n, row by row."""
    lengths = first.norm(dim=1) * second.norm(dim=1)
    cosine = ((first * second).sum(1) / lengths.clamp_min(torch.finfo(first.dtype).tiny)).clamp(-1, 1)
    straight = (cosine.abs() > PARALLEL) | (lengths == 0)
    angle = torch.where(straight, 1.0, cosine.acos())
    left = torch.where(straight, 1 - t, ((1 - t) * angle).sin() / angle.sin())
    right = torch.where(straight, t, (t * angle).sin() / angle.sin())
    return left[:, None] * first + right[:, None] * second
