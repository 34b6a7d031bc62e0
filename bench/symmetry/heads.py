"""Attention heads: their four projections as blocks of tensors, and the invertible maps between them.

Letters used throughout:

    h query heads     g key/value heads (h = g without grouped queries)     d head width
    D model width     r = D + 1 when a bias is appended, else D
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict


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

    @property
    def keys(self) -> tuple[str, ...]:
        """The tensors it is a part of."""
        return (self.weight.key,) if self.bias is None else (self.weight.key, self.bias.key)

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
    """One attention layer: its four projections per head, fused, separate or transposed in memory.

    ``qk`` says which maps A the function allows between Q and K: any invertible one (``free``), those that commute
    with rotary embeddings (``rotary``), or none, since queries and keys are normalised (``fixed``).
    """

    name: str
    heads: int
    kv_heads: int
    width: int
    q: Projection
    k: Projection
    v: Projection
    o: Projection
    qk: Literal["free", "rotary", "fixed"] = "free"

    @property
    def keys(self) -> tuple[str, ...]:
        """The tensors that a gauge touches."""
        return tuple(dict.fromkeys(key for part in (self.q, self.k, self.v, self.o) for key in part.keys))

    def nearest_admissible(self, maps: Tensor) -> Tensor:
        """The nearest maps A (... x d x d, in Frobenius norm) that Q and K of this layer allow.

        Rotary embeddings turn channels i and i + d/2 together, each pair at its own speed, so A must be one complex
        number x + iy per pair: [[x, -y], [y, x]] on those two channels and zero elsewhere.
        """
        if self.qk == "free":
            return maps
        if self.qk == "fixed":
            return torch.eye(self.width, dtype=maps.dtype, device=maps.device).expand_as(maps).contiguous()
        half = self.width // 2
        (aa, ab), (ba, bb) = ((x.diagonal(0, -2, -1) for x in row.split(half, -1)) for row in maps.split(half, -2))
        x, y = torch.diag_embed((aa + bb) / 2), torch.diag_embed((ba - ab) / 2)
        return torch.cat([torch.cat([x, -y], -1), torch.cat([y, x], -1)], -2)

    def transform(self, state: StateDict, gauge: Gauge) -> None:
        """Apply a gauge, in place of the dict's entries. Arithmetic in float64, one rounding to the tensors' dtype.

        Raises:
            ArenaError: A does not commute with this layer's rotary embeddings or its normalisation of Q and K.
        """
        a, b = gauge.a.double(), gauge.b.double()
        if self.qk != "free" and not (a - self.nearest_admissible(a)).abs().amax() <= 1e-6 * a.abs().amax():
            raise ArenaError(
                f"{self.name}: A must commute with the rotary embeddings or QK-norm of this layer ({self.qk}); "
                "pass it through nearest_admissible first"
            )
        eye = torch.eye(self.width, dtype=torch.float64, device=a.device).expand_as(a)
        in_order = torch.equal(gauge.order.cpu(), torch.arange(self.kv_heads))
        fresh: StateDict = {}
        for first, second, matrix in ((self.q, self.k, a), (self.v, self.o, b)):
            unchanged = torch.equal(matrix, eye)
            if unchanged and in_order:
                continue
            # O is read transposed, hence B^-T as for K.
            for projection, left in ((first, matrix), (second, torch.linalg.inv(matrix).mT)):
                rows = projection.read(state).unflatten(0, (self.kv_heads, -1))
                if not unchanged:
                    rows = left.to(rows.device)[:, None] @ rows.double()
                if not in_order:
                    rows = rows[gauge.order.to(rows.device)]
                fresh.update({key: state[key].clone() for key in projection.keys if key not in fresh})
                projection.write(fresh, rows.flatten(0, 1))
        state.update(fresh)
