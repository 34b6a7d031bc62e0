"""The symmetry map: which rearrangements of a model's weights leave its function unchanged.

Defenses draw elements of this symmetry group, aligners search for the element that undoes them, and
neither ever names a parameter. Letters used throughout:

    n hidden units of an MLP      h query heads     g key/value heads (h = g without grouped queries)
    d head width                  D model width     r = D + 1 when a bias is appended, else D
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor, nn

from mergearena.bench.errors import ArenaError, UnsupportedArchitecture
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.symmetry.channels import Axis, MLPGroup, PermutationGroup, Residual, ScaleGroup
from mergearena.bench.symmetry.families import FAMILIES, Ends, Layer, residual_of, shifts_of
from mergearena.bench.symmetry.heads import AttentionGroup, Block, Gauge, Projection
from mergearena.bench.symmetry.shifts import Shift

__all__ = [
    "Architecture",
    "AttentionGroup",
    "Axis",
    "Block",
    "Element",
    "Gauge",
    "MLPGroup",
    "PermutationGroup",
    "Projection",
    "Residual",
    "ScaleGroup",
    "Shift",
    "architecture_of",
    "exchanged",
    "reordered",
]


@dataclass(frozen=True)
class Element:
    """An element of a model's symmetry group, by group name. Groups that are left out stay as they are.

    It acts in the order of its fields, but for scales before permutations: an order says where scaled units go.
    """

    permutations: Mapping[str, Tensor] = field(default_factory=dict)
    """MLP -> order (n, int64): unit i is the former unit order[i]."""
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    """Attention layer -> gauge."""
    scales: Mapping[str, Tensor] = field(default_factory=dict)
    """MLP -> factor per unit (n) of its linear branch: ``up`` rows times s, ``down`` columns over s."""
    norms: Mapping[str, Tensor] = field(default_factory=dict)
    """Norm -> factor per channel (D): its weight and bias times c, the columns of its readers over c."""
    residual: Tensor | None = None
    """The residual stream's order (D, int64) or, where it may be rotated, an orthogonal matrix (D x D, float64)."""

    def inverse(self) -> Element:
        """The element that undoes this one; of a rotation, up to the norm weights, which stay folded."""
        turned = self.residual is not None and self.residual.ndim == 2
        undone = None if self.residual is None else self.residual.mT if turned else self.residual.argsort()
        return Element(
            {name: order.argsort() for name, order in self.permutations.items()},
            {name: gauge.inverse() for name, gauge in self.gauges.items()},
            {name: _reordered(1 / s.double(), self.permutations.get(name)) for name, s in self.scales.items()},
            {} if turned else {name: _reordered(1 / c.double(), self.residual) for name, c in self.norms.items()},
            undone,
        )


def _reordered(factor: Tensor, order: Tensor | None) -> Tensor:
    return factor if order is None else factor[order]


@dataclass(frozen=True)
class Architecture:
    """Where one model's symmetries are."""

    family: str
    mlps: tuple[MLPGroup, ...]
    """MLPs whose hidden units may be permuted."""
    attentions: tuple[AttentionGroup, ...]
    """Attention layers whose heads have a gauge."""
    scales: tuple[ScaleGroup, ...] = ()
    """Linear branches of MLPs, under the names of their MLPs; empty unless gated or ReLU."""
    norms: tuple[ScaleGroup, ...] = ()
    """Norms whose scale the layers that read them can take over."""
    residual: Residual | None = None
    """The residual stream; None where the model's output lives in it, or a tensor on it is not understood."""
    shifts: tuple[Shift, ...] = ()
    """What may be added to biases, and along directions that norms take out; none moves what one before it reads."""

    def apply(self, state: Mapping[str, Tensor], element: Element) -> StateDict:
        """A new state dict computing the same function; ``state`` is left as it was.

        Raises:
            ArenaError: the element names a group that this architecture lacks, or is not of its symmetry group.
        """
        moved = dict(state)
        for name, factor in element.scales.items():
            _find(self.scales, name, "scale").scale(moved, factor)
        for name, order in element.permutations.items():
            _find(self.mlps, name, "MLP").permute(moved, order)
        for name, gauge in element.gauges.items():
            _find(self.attentions, name, "attention layer").transform(moved, gauge)
        for name, factor in element.norms.items():
            _find(self.norms, name, "norm").scale(moved, factor)
        if element.residual is not None:
            if self.residual is None:
                raise ArenaError(
                    f"the residual stream of this {self.family} model has no known symmetry: its output lives in it, "
                    "or a tensor on it is not understood; leave Element.residual out"
                )
            self.residual.transform(moved, element.residual)
        return moved

    def shifted(self, state: Mapping[str, Tensor], by: Callable[[Shift, StateDict], Tensor]) -> StateDict:
        """A new state dict computing the same function, with a vector added to each shift, one after the other.

        In float64 to the end, with one rounding: a bias that is taken through a shifted matrix is a large number.

        Args:
            state: left as it was.
            by: a shift, and the state so far -> the vector to add.

        Raises:
            ArenaError: this model cannot be shifted so.
        """
        moved = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
        for shift in self.shifts:
            shift.add(moved, by(shift, moved))
        return {key: value.to(state[key].dtype) for key, value in moved.items()}


def exchanged(architecture: Architecture, state: Mapping[str, Tensor], order: Sequence[int]) -> StateDict:
    """The state with its attention layers and MLPs in another order: place i gets the tensors of layer ``order[i]``.

    Not a symmetry: the function changes. Norms and output biases stay in their places. The tensors are those of
    ``state``, so that gradients flow through.

    Raises:
        ArenaError: ``order`` is not an order of this model's layers, or layers that change places differ in shape.
    """
    return reordered(architecture.mlps, reordered(architecture.attentions, state, order), order)


def reordered(
    layers: Sequence[AttentionGroup | MLPGroup], state: Mapping[str, Tensor], order: Sequence[int]
) -> StateDict:
    """:func:`exchanged` for layers of one kind.

    Raises:
        ArenaError: as there.
    """
    moved = dict(state)
    if sorted(order) != list(range(len(layers))):
        raise ArenaError(f"an order of {len(layers)} layers holds each of 0..{len(layers) - 1} once, not {order}")
    for place, source in zip(layers, order, strict=True):
        for key, taken in zip(place.keys, layers[source].keys, strict=True):
            if state[key].shape != state[taken].shape:
                raise ArenaError(f"{taken} cannot take the place of {key}: their shapes differ")
            moved[key] = state[taken]
    return moved


class _Named(Protocol):
    @property
    def name(self) -> str: ...


G = TypeVar("G", bound=_Named)


def _find(groups: Iterable[G], name: str, what: str) -> G:
    known = {group.name: group for group in groups}
    if name not in known:
        raise ArenaError(f"this architecture has no {what} {name!r}; it has: {', '.join(known) or 'none'}")
    return known[name]


def architecture_of(model: nn.Module) -> Architecture:
    """Find the symmetry map of a model from its modules.

    Known families: open_clip transformers (vision and text towers), Hugging Face BERT (MiniLM, ...) and Llama
    (Mistral, Qwen2, Qwen3, ...).

    Raises:
        UnsupportedArchitecture: a layer with linear weights is in no known block; the message names it.
    """
    layers: list[Layer] = []
    ends: list[Ends] = []
    families: set[str] = set()
    claimed: set[str] = set()
    for path, module in model.named_modules():
        for name, family in FAMILIES.items():
            if (layer := family.layer(path, module)) is not None:
                layers.append(layer)
                families.add(name)
                claimed.update(name for name, _ in module.named_modules(prefix=path))
            if (end := family.ends(path, module)) is not None:
                ends.append(end)
                claimed.update(end.head)
    unknown = [
        f"{path} ({type(module).__name__})"
        for path, module in model.named_modules()
        if path not in claimed and isinstance(module, nn.Linear | nn.MultiheadAttention | nn.Bilinear | nn.RNNBase)
    ]
    if unknown or not layers:
        what = ", ".join(unknown[:5]) if unknown else f"no transformer block in {type(model).__name__}"
        raise UnsupportedArchitecture(
            f"the symmetries of this model are not known: {what}. Known families: {', '.join(FAMILIES)}; "
            "teach bench/families the layer, or leave it out of the model."
        )
    residual = residual_of(model, layers, ends)
    return Architecture(
        "+".join(sorted(families)),
        tuple(layer.mlp for layer in layers),
        tuple(layer.attention for layer in layers),
        tuple(scale for layer in layers for scale in layer.scales),
        (*(n for layer in layers for n in layer.norms), *(n for end in ends for n in end.norms)),
        residual,
        shifts_of(layers, ends, residual),
    )
