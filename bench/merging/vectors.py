"""Task vectors as kernels see them: read in pieces, never held whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict

_PIECE = 1 << 19
"""Entries of a piece of all task vectors together: few enough for a processor's cache."""


class Vectors(ABC):
    """Several models' vectors over the floating-point tensors of a base, read piece by piece."""

    def __init__(self, base: StateDict, count: int) -> None:
        """Take the base and the number of vectors."""
        self.base = base
        self.count = count
        self.width = max(1, _PIECE // max(1, count))

    def __len__(self) -> int:
        return self.count

    @property
    def keys(self) -> list[str]:
        """The floating-point tensors: those that merges touch."""
        return [key for key, value in self.base.items() if value.is_floating_point()]

    @property
    def size(self) -> int:
        """Entries of one vector."""
        return sum(self.base[key].numel() for key in self.keys)

    @abstractmethod
    def pieces(self, stride: int = 1) -> Iterator[Tensor]:
        """Every ``stride``-th entry of every vector in order, T x c, no piece across tensors.

        A piece may be written to, and is overwritten by the next.
        """

    def elementwise(self, function: Callable[[Tensor], Tensor]) -> StateDict:
        """One vector of many: ``function`` turns T x c entries, which it may overwrite, into c."""
        pieces = self.pieces()
        merged = {}
        for key in self.keys:
            base = self.base[key]
            merged[key] = torch.empty(base.shape, dtype=working_dtype(base), device=base.device)
            flat = merged[key].view(-1)
            for start in range(0, flat.numel(), self.width):
                flat[start : start + self.width] = function(next(pieces))
        return merged


class TaskVectors(Vectors):
    """The task vectors w_t (theta_t - theta0) of several models, computed when they are read.

    In the base's precision, but never less than single.
    """

    def __init__(self, models: Sequence[StateDict], base: StateDict, weights: Sequence[float] | None = None) -> None:
        """Take the models, their base and one weight per model (all 1 if None)."""
        super().__init__(base, len(models))
        self.models = models
        self.weights = list(weights) if weights is not None else [1.0] * len(models)
        self._buffer = torch.empty(0)

    def stacked(self, key: str) -> Tensor:
        """One tensor of every task vector, T x shape, in a buffer that the next reading overwrites."""
        return self._differences(self.base[key], [model[key] for model in self.models])

    def pieces(self, stride: int = 1) -> Iterator[Tensor]:
        """Every ``stride``-th entry of every task vector in order, T x c."""
        skip = 0
        for key in self.keys:
            base = self.base[key].reshape(-1)
            models = [model[key].reshape(-1)[skip::stride] for model in self.models]
            skip, base = (skip - base.numel()) % stride, base[skip::stride]
            for start in range(0, base.numel(), self.width):
                part = slice(start, start + self.width)
                yield self._differences(base[part], [model[part] for model in models])

    def _differences(self, base: Tensor, models: Sequence[Tensor]) -> Tensor:
        size, dtype = len(models) * base.numel(), working_dtype(base)
        if self._buffer.numel() < size or self._buffer.dtype != dtype or self._buffer.device != base.device:
            self._buffer = torch.empty(size, dtype=dtype, device=base.device)
        stack = self._buffer[:size].view(len(models), *base.shape)
        for row, model, weight in zip(stack, models, self.weights, strict=True):
            if model.dtype == base.dtype == dtype:
                torch.sub(model, base, out=row)
            else:
                row.copy_(model).sub_(base)
            if weight != 1.0:
                row.mul_(weight)
        return stack

    def map(self, function: Callable[[str, Tensor], Tensor]) -> StateDict:
        """One task vector of many: ``function`` turns each key and T x shape into a new tensor of that shape."""
        return {key: function(key, self.stacked(key)) for key in self.keys}

    def one_by_one(self) -> Iterator[TaskVectors]:
        """The task vectors of each tensor alone."""
        for key in self.keys:
            yield TaskVectors([{key: model[key]} for model in self.models], {key: self.base[key]}, self.weights)


class DroppedVectors(Vectors):
    """Vectors of which each entry is dropped with probability p and the rest rescaled by 1 / (1 - p).

    Every whole pass sees the same draws. p is rounded to a multiple of 2^-16: sixteen random bits per entry are drawn
    an order of magnitude faster than Bernoulli variables (arXiv 2311.03099, eq. 2).
    """

    def __init__(self, vectors: Vectors, drop: float, generator: torch.Generator) -> None:
        """Take the vectors, p < 1 and the source of randomness."""
        super().__init__(vectors.base, len(vectors))
        self.vectors = vectors
        self._dropped = min(round(drop * 65536), 65535)
        self._seed = int(torch.randint(2**62, (), generator=generator))

    def pieces(self, stride: int = 1) -> Iterator[Tensor]:
        """Every ``stride``-th entry of every vector in order, T x c, dropped and rescaled."""
        generator = torch.Generator().manual_seed(self._seed)
        words = torch.empty(self.width * len(self) // 4 + 1, dtype=torch.int64)
        keep = 65536 / (65536 - self._dropped)
        for stack in self.vectors.pieces(stride):
            drawn = words[: stack.numel() // 4 + 1].random_(-(2**63), None, generator=generator).view(torch.int16)
            kept = drawn[: stack.numel()].view(stack.shape) >= self._dropped - 32768
            yield stack.mul_(kept.to(stack.device)).mul_(keep)


def working_dtype(value: Tensor) -> torch.dtype:
    """The precision that task vectors are computed in: the tensor's own, but at least single."""
    return torch.promote_types(value.dtype, torch.float32)
