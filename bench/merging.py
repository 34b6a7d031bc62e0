"""Task-vector kernels that merges and defenses share. A task vector is tau = theta - theta0."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bench.checkpoints import StateDict


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
