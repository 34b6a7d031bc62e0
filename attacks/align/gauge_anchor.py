"""Gauge anchor: undo any invertible rewriting of attention heads, without breaking the function."""

import torch
from torch import Tensor

import attacks
from bench.architecture import Element, Gauge
from bench.checkpoints import StateDict
from bench.game import AttackerView


@attacks.aligner("gauge-anchor", paper="ours; the anchor attack of arXiv 2606.30360 made function-preserving")
def gauge_anchor(released: StateDict, view: AttackerView, *, ridge: float = 1e-8) -> StateDict:
    """Per head, the invertible map that brings Q nearest to the base's Q, and V to the base's V:

        T = argmin_T |T Q - Q0|^2 + ridge |T|^2,   Q -> T Q,   K -> T^-T K,   V -> T' V,   O -> O T'^-1

    Solving Q and K independently would land nearer to the base and compute something else; applying T's inverse
    to the partner computes exactly what the released model does. Float64; ``ridge`` is relative to the mean
    eigenvalue of Q Q^T. A head whose T is singular keeps its gauge.
    """
    gauges = {}
    for group in view.architecture.attentions:
        q, v = (
            _anchor(side.read(released), side.read(view.base), group.kv_heads, ridge) for side in (group.q, group.v)
        )
        gauges[group.name] = Gauge(q, v, torch.arange(group.kv_heads))
    return view.architecture.apply(released, Element({}, gauges))


def _anchor(rows_hdr: Tensor, base_hdr: Tensor, kv_heads: int, ridge: float) -> Tensor:
    """The maps T (g x d x d, float64), one per key/value head, over all query heads it serves."""
    rows, base = (x.double().unflatten(0, (kv_heads, -1)).movedim(1, 2).flatten(2) for x in (rows_hdr, base_hdr))
    gram = rows @ rows.mT
    width = gram.shape[-1]
    eye = torch.eye(width, dtype=torch.float64)
    mean_eigenvalue = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    lift = (ridge * mean_eigenvalue).clamp(min=torch.finfo(torch.float64).tiny)
    maps = torch.linalg.solve(gram + lift * eye, rows @ base.mT).mT
    usable = torch.linalg.cond(maps) < 1e12
    return torch.where(usable[:, None, None], maps, eye)
