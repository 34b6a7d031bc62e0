"""Balance: scales that cancel, brought back to where the base has them by powers of two, which no rounding touches.

A channel may be scaled by 2^16 and its partner by 2^-16 without changing one bit of the output. What an aligner sums
over channels (Gram matrices, inner products of units) then spans more than its tolerance for rank, or is one channel's
alone. Letters: n channels of a group, g key/value heads, d head width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.symmetry.architecture import Architecture, Element
from mergearena.bench.symmetry.channels import Axis
from mergearena.bench.symmetry.heads import AttentionGroup, Gauge, Projection

SLACK = 6.0
"""How far, in powers of two, a group's channels may lie from the base's: aligners cope with that on their own."""


def balanced(released: StateDict, base: Mapping[str, Tensor], architecture: Architecture) -> StateDict:
    """A state computing the same function, bit for bit where its dtype holds it, with channels scaled as the base's.

    Every group with a channel farther than :data:`SLACK` from the base's is multiplied by powers of two, which depend
    on the lengths of its channels alone: they are about right whatever the channels' order. All other groups, and with
    them every model that was not scaled to extremes, stay as they are, the same tensors.

    Args:
        released: left as it was.
        base: whose scales are taken as right.
        architecture: where scales cancel.
    """
    # Norms first: their scale shows in the lengths of everything that reads them. Weights alone, a group's first axis:
    # biases may have been added to.
    norms = {group.name: _exponents(_lengths(group.times[:1], released, base)) for group in architecture.norms}
    state = _scaled(released, architecture, Element(norms=_far(norms)))
    scales = {
        group.name: _exponents(_lengths(group.times[:1], state, base), _lengths(group.over, state, base))
        for group in architecture.scales
    }
    gauges = {}
    for group in architecture.attentions:
        qk, vo = (_head_exponents(group, *pair, state, base) for pair in ((group.q, group.k), (group.v, group.o)))
        factors = _far({"qk": _admissible(group, qk), "vo": vo})
        if factors:
            ones = torch.ones_like(vo)
            a, b = (torch.diag_embed(factors.get(name, ones)) for name in ("qk", "vo"))
            gauges[group.name] = Gauge(a, b, torch.arange(group.kv_heads))
    return _scaled(state, architecture, Element({}, gauges, _far(scales)))


def _scaled(state: StateDict, architecture: Architecture, element: Element) -> StateDict:
    return architecture.apply(state, element) if element.gauges or element.scales or element.norms else state


def _far(exponents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The factors of the groups that are too far from the base's."""
    return {name: 2.0 ** e.round() for name, e in exponents.items() if e.abs().max() > SLACK}


Lengths = tuple[Tensor, Tensor]
"""Of every channel in the released model and in the base, float64."""


def _lengths(axes: Iterable[Axis], released: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> Lengths:
    """Over all tensors of a side, n each."""

    def length(state: Mapping[str, Tensor]) -> Tensor:
        parts = [torch.linalg.vector_norm(axis.rows(state), dim=1, dtype=torch.float64) for axis in axes]
        return torch.stack(parts).norm(dim=0).cpu()

    return length(released), length(base)


def _exponents(times: Lengths, over: Lengths | None = None) -> Tensor:
    """log2 of the factor that brings each channel's ``times``, against its ``over`` if there is one, to the base's.

    0 where a length is zero: such a channel has no scale.
    """
    exponent = times[1].log2() - times[0].log2()
    if over is not None:
        exponent = (exponent - over[1].log2() + over[0].log2()) / 2
    return exponent.where(exponent.isfinite(), 0.0)


def _head_exponents(
    group: AttentionGroup,
    first: Projection,
    second: Projection,
    released: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
) -> Tensor:
    """The same per head channel, g x d; a key/value head's query heads count together."""

    def length(side: Projection, state: Mapping[str, Tensor]) -> Tensor:
        rows = torch.linalg.vector_norm(side.weight.read(state), dim=-1, dtype=torch.float64)
        return rows.unflatten(0, (group.kv_heads, -1)).norm(dim=1).cpu()

    sides = ((length(side, released), length(side, base)) for side in (first, second))
    return _exponents(*sides)


def _admissible(group: AttentionGroup, exponents: Tensor) -> Tensor:
    """The nearest exponents of a scale that Q and K of this layer allow: the same for a rotary pair, none if fixed."""
    if group.qk == "fixed":
        return torch.zeros_like(exponents)
    return group.nearest_admissible(torch.diag_embed(exponents)).diagonal(dim1=-2, dim2=-1)
