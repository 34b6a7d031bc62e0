"""The symmetry map: which rearrangements of a model's weights leave its function unchanged.

Defenses draw elements of this symmetry group, aligners search for the element that undoes them, and
neither ever names a parameter. Letters used throughout:

    n hidden units of an MLP      h query heads     g key/value heads (h = g without grouped queries)
    d head width                  D model width     r = D + 1 when a bias is appended, else D
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.checkpoints import StateDict
from bench.errors import UnsupportedArchitecture


@dataclass(frozen=True)
class Axis:
    """The axis ``dim`` of tensor ``key`` that runs over a group's hidden units."""

    key: str
    dim: int


@dataclass(frozen=True)
class Block:
    """``heads`` runs of ``width`` rows (``dim`` 0) or columns (``dim`` 1) of tensor ``key``, from ``start``."""

    key: str
    dim: int
    start: int
    heads: int
    width: int

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The block's entries, heads x width x rest (rest is 1 for a bias)."""
        rows = state[self.key].narrow(self.dim, self.start, self.heads * self.width).movedim(self.dim, 0)
        return rows.unflatten(0, (self.heads, self.width)).reshape(self.heads, self.width, -1)

    def write(self, state: StateDict, value: Tensor) -> None:
        """Copy heads x width x rest into this block, in place, cast to the tensor's dtype."""
        target = state[self.key].narrow(self.dim, self.start, self.heads * self.width).movedim(self.dim, 0)
        target.copy_(value.reshape(target.shape))


@dataclass(frozen=True)
class Projection:
    """One of Q, K, V, O of an attention layer as seen per head: a weight block and perhaps a bias block.

    Q, K and V are seen by output rows (h x d x D), with their bias as one more column. O is seen by input
    columns, transposed (h x d x D); its bias belongs to no head and is left out.
    """

    weight: Block
    bias: Block | None = None

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The weight, heads x d x r, with the bias appended as a last column where there is one."""
        weight = self.weight.read(state)
        return weight if self.bias is None else torch.cat([weight, self.bias.read(state)], dim=-1)

    def write(self, state: StateDict, value: Tensor) -> None:
        """The inverse of :meth:`read`, in place."""
        columns = value.shape[-1] if self.bias is None else value.shape[-1] - 1
        self.weight.write(state, value[..., :columns])
        if self.bias is not None:
            self.bias.write(state, value[..., columns:])


@dataclass(frozen=True)
class MLPGroup:
    """Hidden units that may be permuted: ``axes`` lists every tensor axis that moves with them."""

    name: str
    width: int
    axes: tuple[Axis, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The tensors that a permutation touches."""
        return tuple(axis.key for axis in self.axes)

    def units(self, state: Mapping[str, Tensor]) -> Tensor:
        """One row per hidden unit, n x f: its incoming weights, bias and outgoing weights side by side.

        The inner product of two such rows is the similarity that weight matching sums (arXiv 2209.04836, eq. 2).
        """
        return torch.cat([state[a.key].movedim(a.dim, 0).reshape(self.width, -1) for a in self.axes], dim=1)

    def permute(self, state: StateDict, order: Tensor) -> None:
        """Make unit ``i`` the former unit ``order[i]``, in place of the dict's entries."""
        for axis in self.axes:
            state[axis.key] = state[axis.key].index_select(axis.dim, order)


@dataclass(frozen=True)
class Gauge:
    """An element of one attention layer's symmetry group.

    ``a`` and ``b`` (g x d x d, invertible) act as Q -> A Q, K -> A^-T K, V -> B V, O -> O B^-1; then head ``i``
    becomes the former head ``order[i]`` (query heads stay with their key/value head).
    """

    a: Tensor
    b: Tensor
    order: Tensor

    @classmethod
    def identity(cls, group: AttentionGroup) -> Gauge:
        """The neutral element, float64."""
        eye = torch.eye(group.width, dtype=torch.float64).expand(group.kv_heads, -1, -1)
        return cls(eye, eye, torch.arange(group.kv_heads))

    def inverse(self) -> Gauge:
        """The element that undoes this one."""
        return Gauge(torch.linalg.inv(self.a)[self.order], torch.linalg.inv(self.b)[self.order], self.order.argsort())


@dataclass(frozen=True)
class AttentionGroup:
    """One attention layer: its four projections per head, fused, separate or transposed in memory."""

    name: str
    heads: int
    kv_heads: int
    width: int
    q: Projection
    k: Projection
    v: Projection
    o: Projection

    @property
    def keys(self) -> tuple[str, ...]:
        """The tensors that a gauge touches."""
        blocks = [b for p in (self.q, self.k, self.v, self.o) for b in (p.weight, p.bias) if b is not None]
        return tuple(dict.fromkeys(b.key for b in blocks))

    def transform(self, state: StateDict, gauge: Gauge) -> None:
        """Apply a gauge in place. Arithmetic in float64, one rounding to the tensors' dtype."""
        a, b = gauge.a.double(), gauge.b.double()
        # (projection, the matrix its heads are multiplied by): O is read transposed, hence B^-T.
        moves = (
            (self.q, a),
            (self.k, torch.linalg.inv(a).mT),
            (self.v, b),
            (self.o, torch.linalg.inv(b).mT),
        )
        for projection, matrix in moves:
            rows = projection.read(state).double()
            per_kv = rows.unflatten(0, (self.kv_heads, -1))
            moved = (matrix.to(rows.device)[:, None] @ per_kv)[gauge.order.to(rows.device)]
            projection.write(state, moved.flatten(0, 1))


@dataclass(frozen=True)
class Element:
    """An element of a model's symmetry group: a permutation per MLP group, a gauge per attention group.

    Groups that are left out stay as they are.
    """

    permutations: Mapping[str, Tensor]
    gauges: Mapping[str, Gauge]

    def inverse(self) -> Element:
        """The element that undoes this one."""
        return Element(
            {name: order.argsort() for name, order in self.permutations.items()},
            {name: gauge.inverse() for name, gauge in self.gauges.items()},
        )


@dataclass(frozen=True)
class Architecture:
    """Where one model's symmetries are."""

    family: str
    mlps: tuple[MLPGroup, ...]
    attentions: tuple[AttentionGroup, ...]

    def apply(self, state: Mapping[str, Tensor], element: Element) -> StateDict:
        """A new state dict computing the same function; ``state`` is left as it was.

        Raises:
            KeyError: the element names a group that this architecture lacks.
        """
        moved = dict(state)
        mlps = {group.name: group for group in self.mlps}
        attentions = {group.name: group for group in self.attentions}
        for name, order in element.permutations.items():
            mlps[name].permute(moved, order)
        for name, gauge in element.gauges.items():
            group = attentions[name]
            moved.update({key: moved[key].clone() for key in group.keys})
            group.transform(moved, gauge)
        return moved


def architecture_of(model: nn.Module) -> Architecture:
    """Find the symmetry map of a model from its modules.

    Known families: open_clip transformers (vision and text towers), Hugging Face BERT (MiniLM, ...).

    Raises:
        UnsupportedArchitecture: a layer with linear weights is in no known block; the message names it.
    """
    mlps: list[MLPGroup] = []
    attentions: list[AttentionGroup] = []
    families: set[str] = set()
    claimed: set[str] = set()
    for path, module in model.named_modules():
        for family, claim in _FAMILIES.items():
            if (found := claim(path, module)) is not None:
                mlps.append(found[0])
                attentions.append(found[1])
                families.add(family)
                claimed.update(name for name, _ in module.named_modules(prefix=path))
    unknown = [
        f"{path} ({type(module).__name__})"
        for path, module in model.named_modules()
        if path not in claimed and isinstance(module, nn.Linear | nn.MultiheadAttention | nn.Bilinear | nn.RNNBase)
    ]
    if unknown or not mlps:
        what = ", ".join(unknown[:5]) if unknown else f"no transformer block in {type(model).__name__}"
        raise UnsupportedArchitecture(
            f"the symmetries of this model are not known: {what}. Known families: {', '.join(_FAMILIES)}; "
            "teach bench/architecture.py the layer, or leave it out of the model."
        )
    return Architecture("+".join(sorted(families)), tuple(mlps), tuple(attentions))


def _open_clip_block(path: str, module: nn.Module) -> tuple[MLPGroup, AttentionGroup] | None:
    """open_clip's ResidualAttentionBlock: fused ``in_proj``, ``mlp.c_fc`` and ``mlp.c_proj``."""
    attention, first = getattr(module, "attn", None), getattr(getattr(module, "mlp", None), "c_fc", None)
    if not isinstance(attention, nn.MultiheadAttention) or first is None:
        return None
    if attention.in_proj_weight is None or attention.bias_k is not None:
        raise UnsupportedArchitecture(
            f"{path}.attn: MultiheadAttention with separate or biased keys; only the fused in_proj form is known"
        )
    prefix = f"{path}." if path else ""
    h, d, model_width = attention.num_heads, attention.head_dim, attention.embed_dim
    has_bias = attention.in_proj_bias is not None

    def fused(index: int) -> Projection:
        start = index * model_width
        bias = Block(f"{prefix}attn.in_proj_bias", 0, start, h, d) if has_bias else None
        return Projection(Block(f"{prefix}attn.in_proj_weight", 0, start, h, d), bias)

    out = Projection(Block(f"{prefix}attn.out_proj.weight", 1, 0, h, d))
    return (
        _mlp_group(f"{prefix}mlp", f"{prefix}mlp.c_fc", f"{prefix}mlp.c_proj", first),
        AttentionGroup(f"{prefix}attn", h, h, d, fused(0), fused(1), fused(2), out),
    )


def _bert_block(path: str, module: nn.Module) -> tuple[MLPGroup, AttentionGroup] | None:
    """Hugging Face's BertLayer: separate query, key, value; ``intermediate.dense`` and ``output.dense``."""
    inner = getattr(getattr(module, "attention", None), "self", None)
    intermediate = getattr(getattr(module, "intermediate", None), "dense", None)
    if inner is None or intermediate is None or not hasattr(inner, "num_attention_heads"):
        return None
    prefix = f"{path}." if path else ""
    h, d = inner.num_attention_heads, inner.attention_head_size

    def separate(name: str) -> Projection:
        key = f"{prefix}attention.self.{name}"
        bias = Block(f"{key}.bias", 0, 0, h, d) if getattr(inner, name).bias is not None else None
        return Projection(Block(f"{key}.weight", 0, 0, h, d), bias)

    out = Projection(Block(f"{prefix}attention.output.dense.weight", 1, 0, h, d))
    projections = (separate("query"), separate("key"), separate("value"), out)
    return (
        _mlp_group(f"{prefix}mlp", f"{prefix}intermediate.dense", f"{prefix}output.dense", intermediate),
        AttentionGroup(f"{prefix}attention", h, h, d, *projections),
    )


def _mlp_group(name: str, first: str, second: str, layer: nn.Linear) -> MLPGroup:
    """The hidden units between two linear layers."""
    bias = (Axis(f"{first}.bias", 0),) if layer.bias is not None else ()
    return MLPGroup(name, layer.out_features, (Axis(f"{first}.weight", 0), *bias, Axis(f"{second}.weight", 1)))


_FAMILIES = {"open_clip": _open_clip_block, "bert": _bert_block}
