"""Task-vector kernels that merges and defenses share. A task vector is tau = theta - theta0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from bench.checkpoints import StateDict


class TaskVectors:
    """The task vectors w_t (theta_t - theta0) of several models, computed tensor by tensor.

    Nothing is kept but one buffer for the tensor at hand, so that merging many large models takes the memory of
    their largest tensor and not of another copy of them all.
    """

    def __init__(self, models: Sequence[StateDict], base: StateDict, weights: Sequence[float] | None = None) -> None:
        """Take the models, their base and one weight per model (all 1 if None)."""
        self.models = models
        self.base = base
        self.weights = list(weights) if weights is not None else [1.0] * len(models)
        self._buffer = torch.empty(0)

    def __len__(self) -> int:
        return len(self.models)

    @property
    def keys(self) -> list[str]:
        """The floating-point tensors: those that merges touch."""
        return [key for key, value in self.base.items() if value.is_floating_point()]

    def stacked(self, key: str) -> Tensor:
        """One tensor of every task vector, T x shape, in a buffer that the next call overwrites."""
        base = self.base[key]
        size = len(self) * base.numel()
        if self._buffer.numel() < size or self._buffer.dtype != base.dtype or self._buffer.device != base.device:
            self._buffer = torch.empty(size, dtype=base.dtype, device=base.device)
        stack = self._buffer[:size].view(len(self), *base.shape)
        for row, model, weight in zip(stack, self.models, self.weights, strict=True):
            torch.sub(model[key], base, out=row)
            if weight != 1.0:
                row.mul_(weight)
        return stack

    def map(self, function: Callable[[str, Tensor], Tensor]) -> StateDict:
        """One task vector of many: ``function`` turns each key and T x shape into a new tensor of that shape."""
        return {key: function(key, self.stacked(key)) for key in self.keys}


class DroppedVectors(TaskVectors):
    """Task vectors of which each entry is zero with probability ``drop`` and the rest is rescaled (arXiv 2311.03099).

    Every pass over a tensor sees the same draws.
    """

    def __init__(self, vectors: TaskVectors, drop: float, generator: torch.Generator) -> None:
        """Take the task vectors; one seed per tensor is drawn here."""
        super().__init__(vectors.models, vectors.base, vectors.weights)
        self.drop = drop
        self._seeds = torch.randint(2**62, (len(self.keys),), generator=generator).tolist()

    def stacked(self, key: str) -> Tensor:
        """One tensor of every task vector, T x shape, dropped and rescaled."""
        generator = torch.Generator().manual_seed(self._seeds[self.keys.index(key)])
        stack = super().stacked(key)
        return stack.mul_(torch.empty_like(stack).bernoulli_(1 - self.drop, generator=generator)).div_(1 - self.drop)


def ties(vectors: TaskVectors, density: float) -> StateDict:
    """Trim, elect sign, average who agrees (arXiv 2306.01708, alg. 1)."""
    states = [{key: vectors.stacked(key)[t].clone() for key in vectors.keys} for t in range(len(vectors))]
    return elect_and_average([trim(state, density) for state in states])


def add_task_vector(base: StateDict, vector: StateDict, scale: float) -> StateDict:
    """theta0 + scale * tau; tensors without a task vector are the base's."""
    return {key: torch.add(value, vector[key], alpha=scale) if key in vector else value for key, value in base.items()}


def task_vector(state: StateDict, base: StateDict) -> StateDict:
    """Subtract: tau = theta - theta0 over the floating-point tensors (arXiv 2212.04089)."""
    return {key: state[key] - value for key, value in base.items() if value.is_floating_point()}


def add(base: StateDict, vectors: Sequence[StateDict], scale: float) -> StateDict:
    """theta0 + scale * sum of task vectors; tensors without a task vector are the base's."""
    merged = dict(base)
    for key in vectors[0]:
        total = base[key].clone()
        for vector in vectors:
            total.add_(vector[key], alpha=scale)
        merged[key] = total
    return merged


def average(states: Sequence[StateDict]) -> StateDict:
    """The mean of the parameters (model soups, arXiv 2203.05482); integer tensors are the first model's."""
    first = states[0]
    return {
        key: torch.stack([s[key] for s in states]).mean(0) if value.is_floating_point() else value
        for key, value in first.items()
    }


def default_scale(models: int) -> float:
    """Task arithmetic's published coefficient: 0.8 for two or three models, 0.3 from four on."""
    return 0.8 if models < 4 else 0.3


def norm(vector: StateDict) -> float:
    """Euclidean norm over all tensors."""
    return sum(v.double().square().sum().item() for v in vector.values()) ** 0.5


def trim(vector: StateDict, density: float) -> StateDict:
    """Keep the ``density`` share of entries of largest magnitude over the whole model, zero the rest.

    Ties at the threshold are all kept.
    """
    if density >= 1:
        return vector
    threshold = _largest(vector.values(), density)
    return {key: torch.where(v.abs() >= threshold, v, 0) for key, v in vector.items()}


def _largest(tensors: Iterable[Tensor], density: float) -> float:
    """The magnitude that a share ``density`` of all entries reaches, by partition."""
    magnitudes = torch.cat([t.abs().flatten() for t in tensors]).numpy()
    kept = max(1, round(density * magnitudes.size))
    rank = magnitudes.size - kept
    magnitudes.partition(rank)
    return float(magnitudes[rank])


def elect_and_average(vectors: Sequence[StateDict]) -> StateDict:
    """TIES's last two steps: per entry, elect the sign of the larger total mass, then average who agrees.

    Zeros do not vote and are not counted in the mean (arXiv 2306.01708, sec. 4).
    """
    merged = {}
    for key in vectors[0]:
        stacked = torch.stack([v[key] for v in vectors])
        agrees = stacked.sign() == stacked.sum(0).sign()
        kept = torch.where(agrees, stacked, 0)
        count = (agrees & (stacked != 0)).sum(0).clamp(min=1)
        merged[key] = kept.sum(0) / count
    return merged


def drop_and_rescale(vector: StateDict, drop: float, generator: torch.Generator) -> StateDict:
    """Zero each entry with probability ``drop`` and rescale the rest by 1 / (1 - drop) (arXiv 2311.03099)."""
    return {
        key: v * torch.empty_like(v).bernoulli_(1 - drop, generator=generator) / (1 - drop) for key, v in vector.items()
    }
