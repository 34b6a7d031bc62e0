"""Channels that move together: hidden units of an MLP, scales that cancel, and the residual stream.

Letters: n units of a group, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict


@dataclass(frozen=True)
class Axis:
    """The axis ``dim`` of tensor ``key`` that runs over a group's units."""

    key: str
    dim: int

    def rows(self, state: Mapping[str, Tensor]) -> Tensor:
        """The tensor's entries of every unit, n x f: a view where the tensor has at most two axes."""
        value = state[self.key].movedim(self.dim, 0)
        return value.reshape(len(value), -1)


@dataclass(frozen=True)
class PermutationGroup:
    """``width`` units that may be permuted: ``axes`` lists every tensor axis that moves with them."""

    name: str
    width: int
    axes: tuple[Axis, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The tensors that a permutation touches."""
        return tuple(axis.key for axis in self.axes)

    def units(self, state: Mapping[str, Tensor]) -> Tensor:
        """One row per unit, n x f: its entries of every tensor, incoming, bias and outgoing, side by side.

        The inner product of two such rows is the similarity that weight matching sums (arXiv 2209.04836, eq. 2).
        """
        return torch.cat([axis.rows(state) for axis in self.axes], dim=1)

    def permute(self, state: StateDict, order: Tensor) -> None:
        """Make unit ``i`` the former unit ``order[i]``, in place of the dict's entries."""
        for axis in self.axes:
            state[axis.key] = state[axis.key].index_select(axis.dim, order.to(state[axis.key].device))


class MLPGroup(PermutationGroup):
    """The hidden units of one MLP."""


@dataclass(frozen=True)
class ScaleGroup:
    """``width`` channels that may be rescaled: tensors at ``times`` are multiplied, those at ``over`` divided.

    Units of an MLP's linear branch (``up`` against ``down``; any unit under ReLU), or a norm's weight and bias
    against the columns of the layers that read it. ``signed`` says whether negative factors are allowed.
    """

    name: str
    width: int
    times: tuple[Axis, ...]
    over: tuple[Axis, ...]
    signed: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """The tensors that a scale touches."""
        return tuple(axis.key for axis in (*self.times, *self.over))

    def scale(self, state: StateDict, factor: Tensor) -> None:
        """Rescale by ``factor`` (n), in place of the dict's entries; float64, one rounding to the tensors' dtype.

        Raises:
            ArenaError: a factor is zero, not finite, or negative where the function would change.
        """
        allowed = factor.isfinite() & ((factor != 0) if self.signed else (factor > 0))
        if factor.shape != (self.width,) or not allowed.all():
            what = "finite and non-zero" if self.signed else "finite and positive"
            raise ArenaError(
                f"{self.name}: a scale takes {self.width} factors, {what}; got {tuple(factor.shape)}, "
                f"{int((~allowed).sum())} of them not allowed"
            )
        factor = factor.double()
        for axes, by in ((self.times, factor), (self.over, 1 / factor)):
            for axis in axes:
                state[axis.key] = along(state[axis.key], axis.dim, by)


def along(value: Tensor, dim: int, factor: Tensor) -> Tensor:
    """``value`` with its axis ``dim`` multiplied by ``factor`` in float64, rounded once to its own dtype."""
    shape = [-1 if i == dim else 1 for i in range(value.ndim)]
    return (value * factor.to(value.device).view(shape)).to(value.dtype)


@dataclass(frozen=True)
class Residual(PermutationGroup):
    """The D channels of the residual stream, where every reader and writer of it is known.

    They may be permuted under LayerNorm and RMSNorm. If ``rotation``, any orthogonal matrix may act on them, once
    the weight of every norm in ``norms`` is folded into the layers that read it: RMSNorm divides by a length.
    """

    norms: tuple[ScaleGroup, ...] = ()
    rotation: bool = False

    def transform(self, state: StateDict, element: Tensor) -> None:
        """Permute (an order, int64 D) or rotate (orthogonal, D x D: x -> R x), in place of the dict's entries.

        Raises:
            ArenaError: it is neither, or a rotation of a stream that may only be permuted.
        """
        if element.ndim == 1:
            if element.is_floating_point() or not torch.equal(element.cpu().sort().values, torch.arange(self.width)):
                raise ArenaError(f"{self.name}: an order of the residual stream holds each of 0..{self.width - 1} once")
            self.permute(state, element)
            return
        if not self.rotation:
            raise ArenaError(
                f"{self.name}: this residual stream may be permuted, not rotated (that needs RMSNorm and a head that "
                "is not tied to the embedding); give an order of its channels instead of a matrix"
            )
        rotation = element.double()
        eye = torch.eye(self.width, dtype=torch.float64, device=element.device)
        if element.shape != eye.shape or not torch.allclose(rotation @ rotation.mT, eye, rtol=0, atol=1e-8):
            raise ArenaError(f"{self.name}: a rotation is an orthogonal {self.width} x {self.width} matrix, in float64")
        self._rotate(state, rotation)

    def _rotate(self, state: StateDict, rotation: Tensor) -> None:
        """Fold and rotate in float64 with one rounding. Every tensor has one axis on the stream and at most two."""
        folded = {axis: state[norm.times[0].key] for norm in self.norms for axis in norm.over}
        weights = {axis.key for norm in self.norms for axis in norm.times}
        for axis in self.axes:
            value = state[axis.key]
            if axis.key in weights:
                state[axis.key] = torch.ones_like(value)
                continue
            wide, matrix = value.double(), rotation.to(value.device)
            if axis in folded:
                wide = along(wide, axis.dim, folded[axis])
            moved = matrix @ wide if axis.dim == 0 else wide @ matrix.mT
            state[axis.key] = moved.to(value.dtype)
