"""Residual matching: undo a permutation or a rotation of the residual stream."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.symmetry.architecture import Architecture, Element
from mergearena.bench.symmetry.assignment import assign
from mergearena.bench.symmetry.channels import Axis


@attacks.aligner(
    "residual-matching", paper="ours; after Git Re-Basin, arXiv 2209.04836, and arXiv 2502.00264", cost="algebra"
)
def residual_matching(
    released: StateDict, view: AttackerView, *, evidence: Annotated[float, Field(ge=1)] = 2.0
) -> StateDict:
    """The map R of the residual stream that brings the released model X (D channels x f) nearest to the base X0:

        R = argmin_R |X0 - R X|^2,   M = X0 X^T
        permutation:  R = argmax_P <P, M>, a linear assignment;   rotation:  R = U V^T,  M = U S V^T (Procrustes)

    X holds only what no other symmetry moves: embeddings, output biases, the final projection times the norm before
    it, not what heads or hidden units share. So it is exact whatever else a defense did, and before other aligners ran.
    Where the stream may be rotated (RMSNorm) a permutation is kept unless it leaves ``evidence`` times the distance
    that the rotation leaves: on an unprotected victim the best rotation is near the identity, but fits the task
    vector's noise. A rotated model has its norms folded; they get the base's weights back from the layers that read
    them. A model without such a symmetry is handed on as it is.
    """
    architecture, residual = view.architecture, view.architecture.residual
    if residual is None:
        return released
    base, ours = (anchors(architecture, state) for state in (view.base, released))
    overlap_dd = sum((x0 @ x.T for x0, x in zip(base, ours, strict=True)), torch.zeros(()))
    size = float(sum(x.square().sum() for x in (*base, *ours)))
    order = assign(overlap_dd).order
    if residual.rotation:
        u, s, vh = torch.linalg.svd(overlap_dd)
        left = size - 2 * float(overlap_dd[torch.arange(len(order)), order].sum())
        # Distances are differences of squares: below 1e-9 of the size there is nothing left but rounding.
        if left > evidence * (size - 2 * float(s.sum())) + 1e-9 * size:
            return _unfolded(architecture.apply(released, Element(residual=u @ vh)), view)
    if torch.equal(order, torch.arange(len(order))):
        return released
    return architecture.apply(released, Element(residual=order))


def anchors(architecture: Architecture, state: StateDict) -> list[Tensor]:
    """What only the residual stream moves, D x f per tensor, float64; readers come times the weight of their norm."""
    residual = architecture.residual
    assert residual is not None
    shared = {axis.key for norm in architecture.norms for axis in norm.times}
    shared.update(*(mlp.keys for mlp in architecture.mlps), *(attention.keys for attention in architecture.attentions))
    norms: dict[Axis, str] = {axis: norm.times[0].key for norm in architecture.norms for axis in norm.over}
    rows = []
    for axis in residual.axes:
        if axis.key not in shared:
            rows.append(axis.rows(state).cpu().double())
            if axis in norms:
                rows[-1] = rows[-1] * state[norms[axis]].cpu().double()[:, None]
    return rows


def _unfolded(state: StateDict, view: AttackerView) -> StateDict:
    """Give norms of weight one the base's weights; their readers' columns are divided by them."""
    factors = {}
    for norm in view.architecture.norms:
        weight = view.base[norm.times[0].key].double()
        factors[norm.name] = torch.where(weight == 0, 1.0, weight)
    return view.architecture.apply(state, Element(norms=factors))
