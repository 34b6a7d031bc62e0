"""Scale normalization: undo per-channel rescaling of attention heads."""

import torch
from torch import Tensor

import attacks
from bench.architecture import Element, Gauge
from bench.checkpoints import StateDict
from bench.game import AttackerView


@attacks.aligner("scale-normalization", paper="inverse of arXiv 2503.07661's diagonal multi-head scaling")
def scale_normalization(released: StateDict, view: AttackerView) -> StateDict:
    """Per head channel, the scale that maps the released row nearest to the base's, bias appended:

        s = <q, q0> / |q|^2,   Q -> diag(s) Q,   K -> diag(1/s) K

    and the same for V with O. The inverse on the partner keeps the function exactly. A channel whose rows do
    not point the base's way (s <= 0) tells nothing about its scale and is left alone.
    """
    gauges = {}
    for group in view.architecture.attentions:
        q, v = (_scales(side.read(released), side.read(view.base), group.kv_heads) for side in (group.q, group.v))
        gauges[group.name] = Gauge(torch.diag_embed(q), torch.diag_embed(v), torch.arange(group.kv_heads))
    return view.architecture.apply(released, Element({}, gauges))


def _scales(rows_hdr: Tensor, base_hdr: Tensor, kv_heads: int) -> Tensor:
    """One least-squares scale per key/value head and channel, g x d, float64."""
    rows, base = (x.double().unflatten(0, (kv_heads, -1)) for x in (rows_hdr, base_hdr))
    inner, square = (rows * base).sum((1, 3)), rows.square().sum((1, 3))
    scale = inner / square.clamp(min=torch.finfo(torch.float64).tiny)
    return torch.where(scale > 0, scale, 1.0)
