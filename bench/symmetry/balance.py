"""Balance: scales that cancel, brought back to where the base has them by powers of two, which no rounding touches.

A channel may be scaled by 2^16 and its partner by 2^-16 without changing one bit of the output. What an aligner sums
over channels (Gram matrices, inner products of units) then spans more than its tolerance for rank, or is one channel's
alone. Letters: n channels of a group, g key/value heads, d head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.symmetry.architecture import Architecture, Element
from mergearena.bench.symmetry.channels import Axis, ScaleGroup
from mergearena.bench.symmetry.heads import AttentionGroup, Gauge, Projection

SLACK = 6.0
"""By how many powers of two a group's scales may spread farther than the base's: aligners cope with that."""

State = Mapping[str, Tensor]
T = TypeVar("T")


def balanced(released: StateDict, base: State, architecture: Architecture) -> StateDict:
    """A state computing the same function, bit for bit where its dtype holds it, with channels scaled as the base's.

    A group is left alone, the same tensors, unless its scales lie farther than :data:`SLACK` from the base's, whatever
    its channels' order. The factors themselves compare channel with channel: where the order is another one, they are
    right up to how the base's own scales differ.

    Args:
        released: left as it was.
        base: whose scales are taken as right.
        architecture: where scales cancel.
    """
    # Norms first: their scale shows in the lengths of everything that reads them.
    norms = {group.name: _norm_factor(group, released, base) for group in architecture.norms}
    state = _scaled(released, architecture, Element(norms=_known(norms)))
    scales = {
        group.name: _factor(_tilt(*_lengths(group, state)), _tilt(*_lengths(group, base)))
        for group in architecture.scales
    }
    gauges = {group.name: _gauge(group, state, base) for group in architecture.attentions}
    return _scaled(state, architecture, Element({}, _known(gauges), _known(scales)))


def _known(found: Mapping[str, T | None]) -> dict[str, T]:
    return {name: value for name, value in found.items() if value is not None}


def _scaled(state: StateDict, architecture: Architecture, element: Element) -> StateDict:
    return architecture.apply(state, element) if element.gauges or element.scales or element.norms else state


def _tilt(times: Tensor, over: Tensor) -> Tensor:
    """Half of log2(times / over) from two sides' lengths, which a scale s moves by log2 s; 0 where one is zero."""
    tilt = (times.log2() - over.log2()) / 2
    return tilt.where(tilt.isfinite(), 0.0)


def _is_far(ours: Tensor, theirs: Tensor) -> bool:
    """Whether the tilts of a group are not the base's, in whatever order."""
    return bool((ours.flatten().sort().values - theirs.flatten().sort().values).abs().max() > SLACK)


def _factor(ours: Tensor, theirs: Tensor) -> Tensor | None:
    """The powers of two that bring tilts to the base's; None if they are near."""
    return 2.0 ** (theirs - ours).round() if _is_far(ours, theirs) else None


def _norm_factor(group: ScaleGroup, released: State, base: State) -> Tensor | None:
    """A norm's, from its own weight: the columns of its readers are also as long as the readers' rows are scaled."""
    (ours, ours_over), (theirs, theirs_over) = (_lengths(group, state) for state in (released, base))
    if not _is_far(_tilt(ours, ours_over), _tilt(theirs, theirs_over)):
        return None
    exponent = (theirs.log2() - ours.log2()).round()
    return 2.0 ** exponent.where(exponent.isfinite(), 0.0)


def _gauge(group: AttentionGroup, released: State, base: State) -> Gauge | None:
    """A diagonal one."""

    def tilt(first: Projection, second: Projection, state: State) -> Tensor:
        return _tilt(*(_head_lengths(group, side, state) for side in (first, second)))

    a = b = None
    if group.qk != "fixed":
        a = _factor(*(_paired(group, tilt(group.q, group.k, state)) for state in (released, base)))
    b = _factor(*(tilt(group.v, group.o, state) for state in (released, base)))
    if a is None and b is None:
        return None
    ones = torch.ones(group.kv_heads, group.width, dtype=torch.float64)
    a, b = (torch.diag_embed(ones if factor is None else factor) for factor in (a, b))
    return Gauge(a, b, torch.arange(group.kv_heads))


def _paired(group: AttentionGroup, tilt: Tensor) -> Tensor:
    """The nearest tilts of a scale that Q and K may have: under rotary embeddings, one per pair."""
    return group.nearest_admissible(torch.diag_embed(tilt)).diagonal(dim1=-2, dim2=-1)


def _lengths(group: ScaleGroup, state: State) -> tuple[Tensor, Tensor]:
    """Of ``times``' weight, which comes first, since biases may have been added to, and of ``over``; n each."""
    return _length(group.times[:1], state), _length(group.over, state)


def _length(axes: tuple[Axis, ...], state: State) -> Tensor:
    rows = [torch.linalg.vector_norm(axis.rows(state), dim=1, dtype=torch.float64) for axis in axes]
    return torch.stack(rows).norm(dim=0).cpu()


def _head_lengths(group: AttentionGroup, side: Projection, state: State) -> Tensor:
    """Of a projection's weights, g x d; a key/value head's query heads count together."""
    rows = torch.linalg.vector_norm(side.weight.read(state), dim=-1, dtype=torch.float64)
    return rows.unflatten(0, (group.kv_heads, -1)).norm(dim=1).cpu()
