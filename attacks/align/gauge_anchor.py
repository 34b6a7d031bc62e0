"""Gauge anchor: undo any invertible rewriting of attention heads, without breaking the function."""

import torch
from torch import Tensor

import attacks
from bench.architecture import Element, Gauge
from bench.checkpoints import StateDict
from bench.game import AttackerView


@attacks.aligner(
    "gauge-anchor", paper="ours; the anchor attack of arXiv 2606.30360 made function-preserving", cost="algebra"
)
def gauge_anchor(released: StateDict, view: AttackerView, *, rtol: float = 1e-9) -> StateDict:
    """Per head, the invertible map that brings Q nearest to the base's Q, and V to the base's V:

        T = argmin_T |T Q - Q0|^2 = Q0 Q^+,   Q -> T Q,   K -> T^-T K;   likewise V -> T' V,   O -> O T'^-1

    Solving Q and K independently would land nearer to the base and compute something else; applying T's inverse
    to the partner computes exactly what the released model does, and T absorbs whatever invertible map a defense
    drew. Float64; ``rtol`` cuts off the pseudo-inverse's singular values. A head whose T is singular keeps its gauge.
    """
    gauges = {}
    for group in view.architecture.attentions:
        q, v = (_anchor(side.read(released), side.read(view.base), group.kv_heads, rtol) for side in (group.q, group.v))
        gauges[group.name] = Gauge(q, v, torch.arange(group.kv_heads))
    return view.architecture.apply(released, Element({}, gauges))


def _anchor(rows_hdr: Tensor, base_hdr: Tensor, kv_heads: int, rtol: float) -> Tensor:
    """The maps T (g x d x d, float64), one per key/value head, over all query heads it serves."""
    rows, base = (x.double().unflatten(0, (kv_heads, -1)).movedim(1, 2).flatten(2) for x in (rows_hdr, base_hdr))
    maps = base @ torch.linalg.pinv(rows, rtol=rtol)
    usable = torch.linalg.cond(maps) < 1 / rtol
    return torch.where(usable[:, None, None], maps, torch.eye(maps.shape[-1], dtype=torch.float64))
