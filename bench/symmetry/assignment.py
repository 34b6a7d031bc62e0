"""Similarity of hidden units, and linear assignment: exact, and fast where matching is easy.

The problem: given gains n x n, the permutation that maximises sum_i gain[i, order[i]]. Any potentials u, v with
u_i + v_j >= gain[i, j] bound every assignment by sum u + sum v, so an assignment that attains its bound is optimal and
the potentials certify it (linear programming duality).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mergearena.bench.symmetry.channels import PermutationGroup

EASY = 0.05
"""Share of rows without a column of their own up to which augmenting one by one beats solving from nothing."""


class NotFinite(ValueError):
    """Gains that are NaN or infinite."""


@dataclass(frozen=True)
class Assignment:
    """An optimal assignment and how its optimality is known."""

    order: Tensor
    """n, int64: place i takes unit order[i]."""
    certificate: Literal["row-maxima", "potentials", "solver"]
    """``row-maxima``: every row has its largest gain; ``potentials``: it attains the bound of feasible potentials;
    ``solver``: SciPy's word."""


def similarity(
    group: PermutationGroup,
    left: Mapping[str, Tensor],
    right: Mapping[str, Tensor],
    *,
    cosine: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Inner products of the units of two models, n x n: rows are ``left``'s units, columns ``right``'s.

    The sum over all tensors that move with the units, incoming, bias and outgoing (arXiv 2209.04836, eq. 2), added up
    tensor by tensor without copying any. ``cosine`` divides by the units' norms. ``out`` is written to if it fits.
    """
    first = left[group.axes[0].key]
    if out is None or out.shape[0] != group.width or out.dtype != first.dtype or out.device != first.device:
        out = first.new_empty(group.width, group.width)
    for i, axis in enumerate(group.axes):
        x_nf, y_nf = axis.rows(left), axis.rows(right)
        out.addmm_(x_nf, y_nf.T, beta=float(i > 0))  # beta 0 ignores what was there, NaN too
    if cosine:
        for state, dim in ((left, 1), (right, 0)):
            square_n = sum(axis.rows(state).square().sum(1) for axis in group.axes)
            assert isinstance(square_n, Tensor)
            out.mul_(square_n.clamp(min=torch.finfo(out.dtype).tiny).rsqrt().unsqueeze(dim))
    return out


def assign(gain_nn: Tensor) -> Assignment:
    """The order with the largest total gain, where ``gain[i, j]`` is for unit j moving to place i.

    If the row maxima lie in distinct columns they are the optimum, since each row attains its bound. Otherwise they
    are the first potentials (u = row maxima, v = 0), and every row left without a column is assigned along a shortest
    augmenting path (Jonker and Volgenant 1987), which keeps the potentials feasible and tight; a problem with many
    such rows goes to :func:`scipy.optimize.linear_sum_assignment` as a whole.

    Raises:
        ValueError: the gains are not square.
        NotFinite: they are not all finite.
    """
    if gain_nn.ndim != 2 or gain_nn.shape[0] != gain_nn.shape[1]:
        raise ValueError(f"an assignment needs as many units as places, got gains of shape {tuple(gain_nn.shape)}")
    best_n, column_n = gain_nn.max(1)
    # A NaN or +inf anywhere in a row is its maximum.
    if not best_n.isfinite().all():
        raise NotFinite("the gains of an assignment must be finite: is a weight NaN or infinite?")
    taken_n = torch.bincount(column_n, minlength=len(column_n))
    collisions = int((taken_n == 0).sum())
    if collisions == 0:
        return Assignment(column_n.cpu(), "row-maxima")
    if collisions <= EASY * len(column_n):
        order = _augment(gain_nn.cpu().numpy(), best_n.double().cpu().numpy(), column_n.cpu().numpy())
        return Assignment(torch.from_numpy(order), "potentials")
    _, order = linear_sum_assignment(gain_nn.cpu().numpy(), maximize=True)
    return Assignment(torch.from_numpy(order), "solver")


def _augment(gain: NDArray[np.floating], u: NDArray[np.float64], column: NDArray[np.int64]) -> NDArray[np.int64]:
    """Complete the assignment of every row to ``column``, where two rows may want one, into an optimal one.

    ``u`` are the row maxima. Slack is u_i + v_j - gain[i, j] >= 0, and 0 on assigned pairs, throughout.
    """
    n = len(u)
    v = np.zeros(n)
    row_of = np.full(n, -1)
    column_of = np.full(n, -1)
    _, first = np.unique(column, return_index=True)
    row_of[column[first]], column_of[first] = first, column[first]
    for start in np.flatnonzero(column_of < 0):
        # Dijkstra over columns from one free row; ``via`` is the row from which a column was reached best.
        distance = u[start] + v - gain[start]
        via = np.full(n, start)
        done = np.zeros(n, dtype=bool)
        scanned: list[int] = []
        while True:
            near = int(np.where(done, np.inf, distance).argmin())
            row = row_of[near]
            if row < 0:
                break
            done[near] = True
            scanned.append(near)
            through = distance[near] + (u[row] + v - gain[row])
            better = ~done & (through < distance)
            distance[better] = through[better]
            via[better] = row
        reach = distance[near]
        for passed in scanned:
            v[passed] += reach - distance[passed]
            u[row_of[passed]] -= reach - distance[passed]
        u[start] -= reach
        while True:  # flip the path from the free column back to the free row
            row = via[near]
            row_of[near] = row
            column_of[row], near = near, column_of[row]
            if row == start:
                break
    return column_of
