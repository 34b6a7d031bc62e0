"""What may be added to a model's weights without changing its function: biases that cancel, directions nobody reads.

Letters: h query heads, g key/value heads, d head width, D model width, n rows of a reader, m inputs of a writer.
Every shift is a vector t that adds up: shifting by s and then by t is shifting by s + t.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.symmetry.channels import Axis
from mergearena.bench.symmetry.heads import AttentionGroup, Block, Projection


@dataclass(frozen=True)
class Shift(ABC):
    """One group of shifts."""

    name: str

    @abstractmethod
    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """Where a model stands, a vector in float64: shifted by t, it stands at t more."""

    @abstractmethod
    def unit(self, state: Mapping[str, Tensor]) -> Tensor:
        """The size of a shift, per entry, that is about as large as what it is added to."""

    @abstractmethod
    def add(self, state: StateDict, by: Tensor) -> None:
        """Shift, in place of the dict's entries; float64, one rounding to the tensors' dtype.

        Raises:
            ArenaError: this model cannot be shifted so.
        """


@dataclass(frozen=True)
class _HeadBias(Shift):
    """The bias of one of an attention layer's projections, g d."""

    group: AttentionGroup

    @property
    @abstractmethod
    def projection(self) -> Projection:
        """The projection; one without a bias has no such shift."""

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The bias."""
        return self._bias.read(state).flatten().double()

    def unit(self, state: Mapping[str, Tensor]) -> Tensor:
        """The length of a row of the weight: the spread of what is projected over inputs of unit variance."""
        return self.projection.weight.read(state).double().norm(dim=-1).flatten()

    def add(self, state: StateDict, by: Tensor) -> None:
        """See the class."""
        state[self._bias.key] = state[self._bias.key].clone()
        moved = self._bias.read(state).double()
        self._bias.write(state, moved + by.double().to(moved.device).view(moved.shape))

    @property
    def _bias(self) -> Block:
        assert self.projection.bias is not None
        return self.projection.bias


@dataclass(frozen=True)
class KeyBias(_HeadBias):
    """b_k + t (g d): adds q.t to every score of a query, which softmax ignores. Not under rotary embeddings."""

    @property
    def projection(self) -> Projection:
        """The keys'."""
        return self.group.k


@dataclass(frozen=True)
class ValueBias(_HeadBias):
    """b_v + t (g d), b_o - W_o t: attention's weights sum to one, so that what is added to every value comes out."""

    out: str
    """The output projection's bias."""

    @property
    def projection(self) -> Projection:
        """The values'."""
        return self.group.v

    def add(self, state: StateDict, by: Tensor) -> None:
        """See the class."""
        super().add(state, by)
        group = self.group
        t_hd = by.double().view(group.kv_heads, -1).repeat_interleave(group.heads // group.kv_heads, dim=0)
        o_hdm = group.o.weight.read(state).double()
        _add(state, self.out, -torch.einsum("hd,hdm->m", t_hd.to(o_hdm.device), o_hdm))


@dataclass(frozen=True)
class NormRead(Shift):
    """W + t (1/w)^T, b - t sum(c/w), t of n: what LayerNorm hands on, w x + c, has an x of mean zero."""

    weight: Axis
    """Of the reader, over what it reads."""
    bias: str | None
    scale: str | None
    """w, the norm's weight; None: ones."""
    offset: str | None
    """c, the norm's bias; None: zeros. A reader without a bias has a norm without one."""

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The mean of W diag(w) over its columns: how the reader weighs the mean of x."""
        rows = self.weight.rows(state).double()
        return (rows * self._scale(state)[:, None]).mean(0)

    def unit(self, state: Mapping[str, Tensor]) -> Tensor:
        """The length of a row over that of 1/w."""
        return self.weight.rows(state).double().norm(dim=0) / self._inverse(state).norm()

    def add(self, state: StateDict, by: Tensor) -> None:
        """See the class."""
        inverse, by = self._inverse(state), by.double()
        value = state[self.weight.key]
        added = torch.outer(inverse, by.to(inverse.device)).movedim(0, self.weight.dim)
        state[self.weight.key] = (value.double() + added).to(value.dtype)
        if self.bias is not None and self.offset is not None:
            _add(state, self.bias, -by * (state[self.offset].double() * inverse).sum().cpu())

    def _scale(self, state: Mapping[str, Tensor]) -> Tensor:
        width = state[self.weight.key].shape[self.weight.dim]
        return torch.ones(width, dtype=torch.float64) if self.scale is None else state[self.scale].double()

    def _inverse(self, state: Mapping[str, Tensor]) -> Tensor:
        scale = self._scale(state)
        if not scale.all():
            raise ArenaError(
                f"{self.name}: the norm before it drops a channel, and shares no direction with its reader"
            )
        return 1 / scale


@dataclass(frozen=True)
class StreamWrite(Shift):
    """W + 1 t^T (t of m), b + t_m 1: moves all channels of a stream alike, whose every reader takes the mean out."""

    weight: Axis
    """Of the writer, over what it writes."""
    bias: str | None

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The mean over channels of every column, and of the bias if there is one."""
        columns = self.weight.rows(state).double().mean(0)
        return columns if self.bias is None else torch.cat([columns, state[self.bias].double().mean()[None]])

    def unit(self, state: Mapping[str, Tensor]) -> Tensor:
        """The root mean square of a column, and, for a bias, of the columns."""
        columns = self.weight.rows(state).double().square().mean(0).sqrt()
        return columns if self.bias is None else torch.cat([columns, columns.mean()[None]])

    def add(self, state: StateDict, by: Tensor) -> None:
        """See the class."""
        value, by = state[self.weight.key], by.double()
        columns = by if self.bias is None else by[:-1]
        added = columns.expand(value.shape[self.weight.dim], -1).movedim(0, self.weight.dim).to(value.device)
        state[self.weight.key] = (value.double() + added).to(value.dtype)
        if self.bias is not None:
            _add(state, self.bias, by[-1])


@dataclass(frozen=True)
class Sum(Shift):
    """E + 1 t^T, F - 1 t^T, t of D: two embeddings that are added to each other; of F perhaps one row alone."""

    plus: str
    minus: str
    row: int | None = None

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The mean of E's rows."""
        return state[self.plus].double().reshape(-1, state[self.plus].shape[-1]).mean(0)

    def unit(self, state: Mapping[str, Tensor]) -> Tensor:
        """The root mean square of E."""
        return state[self.plus].double().square().mean().sqrt().expand(state[self.plus].shape[-1])

    def add(self, state: StateDict, by: Tensor) -> None:
        """See the class."""
        _add(state, self.plus, by)
        if self.row is None:
            _add(state, self.minus, -by)
        else:
            state[self.minus] = state[self.minus].clone()
            state[self.minus][self.row] -= by.to(state[self.minus])


def _add(state: StateDict, key: str, by: Tensor) -> None:
    value = state[key]
    state[key] = (value.double() + by.double().to(value.device)).to(value.dtype)
