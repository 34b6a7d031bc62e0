"""Scale normalization: undo rescaling of channels whose partner takes the inverse."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.channels import Axis, ScaleGroup
from mergearena.bench.symmetry.heads import Gauge, Projection

Method = Literal["least-squares", "norm-ratio"]


@attacks.aligner("scale-normalization", paper="inverse of arXiv 2503.07661's diagonal multi-head scaling")
def scale_normalization(released: StateDict, view: AttackerView, *, method: Method = "least-squares") -> StateDict:
    """Per head channel, the scale s that maps the released rows q, k back to the base's (bias appended):

        least-squares:  s = <q, q0> / |q|^2          norm-ratio:  s = sqrt(|q0| |k| / (|q| |k0|))
        Q -> diag(s) Q,  K -> diag(1/s) K

    and the same for V with O. The inverse on the partner keeps the function exactly. Least squares leaves a channel
    alone whose rows do not point the base's way (s <= 0); the ratio needs no directions, so it also plays before
    heads are matched. Under rotary embeddings the channels of a pair share their scale.

    The weight (and bias) of a norm trade scale with the columns of the layers that read it: least squares on the norm
    itself, of either sign where the map allows it, before the rest, since its scale shows in everything that reads it.
    The linear branch of a gated MLP, ``up`` against ``down``, is set by the ratio with the sign of the rows' inner
    product.
    """
    architecture, base = view.architecture, view.base
    released = balanced(released, base, architecture)
    norms = {
        group.name: _least_squares(*_both(group.times, released, base), group.signed) for group in architecture.norms
    }
    state = architecture.apply(released, Element(norms=norms))
    gauges = {}
    for group in architecture.attentions:
        qk, vo = (
            torch.diag_embed(_head_scales(method, first, second, state, base, group.kv_heads))
            for first, second in ((group.q, group.k), (group.v, group.o))
        )
        gauges[group.name] = Gauge(group.nearest_admissible(qk), vo, torch.arange(group.kv_heads))
    return architecture.apply(
        state, Element({}, gauges, {group.name: _branch_scales(group, state, base) for group in architecture.scales})
    )


def _head_scales(
    method: Method, first: Projection, second: Projection, released: StateDict, base: StateDict, kv_heads: int
) -> Tensor:
    """One scale per key/value head and channel, g x d, float64, 1 where the equations give none."""
    q, k, q0, k0 = (
        side.read(state).double().unflatten(0, (kv_heads, -1)) for state in (released, base) for side in (first, second)
    )
    if method == "norm-ratio":
        return _ratio(*(x.square().sum((1, 3)) for x in (q, k, q0, k0)))
    return _least_squares(*(x.movedim(1, 2).flatten(2) for x in (q, q0)))


def _branch_scales(group: ScaleGroup, released: StateDict, base: StateDict) -> Tensor:
    """One factor per unit, n, float64."""
    (up, up0), (down, down0) = (_both(axes, released, base) for axes in (group.times, group.over))
    factor = _ratio(*(x.square().sum(1) for x in (up, down, up0, down0)))
    return torch.where((up * up0).sum(1) < 0, -factor, factor) if group.signed else factor


def _both(axes: Iterable[Axis], released: StateDict, base: StateDict) -> tuple[Tensor, Tensor]:
    """The entries of every channel in the released model and in the base, n x f each, float64."""
    ours, theirs = (torch.cat([axis.rows(state) for axis in axes], dim=1).double() for state in (released, base))
    return ours, theirs


def _least_squares(rows: Tensor, base: Tensor, signed: bool = False) -> Tensor:
    """The s with s * rows nearest to base, over the last axis, not zero, positive unless signed; 1 where none is."""
    scale = (rows * base).sum(-1) / rows.square().sum(-1).clamp(min=torch.finfo(rows.dtype).tiny)
    return torch.where((scale != 0) if signed else (scale > 0), scale, 1.0)


def _ratio(q: Tensor, k: Tensor, q0: Tensor, k0: Tensor) -> Tensor:
    """sqrt(|q0| |k| / (|q| |k0|)) from squared norms; 1 where one of them is zero."""
    ratio = (q0 * k / (q * k0)) ** 0.25
    return torch.where((q * k * q0 * k0 > 0) & ratio.isfinite(), ratio, 1.0)
