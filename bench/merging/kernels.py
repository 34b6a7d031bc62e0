"""Task-vector kernels that merges, defenses and suites share. A task vector is tau = theta - theta0.

Letters: T models, c consecutive entries of one tensor. Kernels stream over the tensors and reuse one small buffer:
beside the models themselves there is never more than the merged one and a piece of each task vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.selection import kth_largest
from mergearena.bench.merging.vectors import Vectors, working_dtype

if TYPE_CHECKING:
    from mergearena.bench.symmetry.architecture import Architecture


def thresholds(vectors: Vectors, kept: int, of: Callable[[Tensor], Tensor] = torch.Tensor.abs_) -> list[float]:
    """Per vector, its ``kept``-th largest magnitude, exactly: what ``kept`` entries reach.

    ``of`` turns T x c entries into the T x c values that are compared, and may overwrite them. Inf where none is kept,
    -inf where all are.
    """
    return kth_largest(lambda stride: map(of, vectors.pieces(stride)), len(vectors), vectors.size, kept)


def trim(stack: Tensor, limits: Sequence[float]) -> Tensor:
    """Zero the entries of each row of T x c that are smaller in magnitude than its limit, in place."""
    kind = np.float64 if stack.dtype == torch.float64 else np.float32
    for row, limit in zip(stack, limits, strict=True):
        if limit > 0:
            # hardshrink drops what does not exceed its argument; whatever equals the limit is to stay.
            row.copy_(F.hardshrink(row, float(np.nextafter(kind(limit), kind(0)))))
    return stack


def elect_and_average(stack: Tensor) -> Tensor:
    """TIES's last two steps, T x c -> c: elect the sign of the larger total mass, then average who agrees.

    Zeros do not vote and are not counted in the mean (arXiv 2306.01708, sec. 4). Overwrites ``stack``.
    """
    elected = stack.sum(0).sign_()
    agreeing = stack.mul_(elected).clamp_min_(0)
    total = agreeing.sum(0)
    return total.div_(agreeing.sign_().sum(0).clamp_min_(1)).mul_(elected)


def ties(vectors: Vectors, density: float) -> StateDict:
    """Trim every vector to its largest entries, elect signs, average who agrees (arXiv 2306.01708, alg. 1).

    Entries that equal the threshold are all kept.
    """
    limits = thresholds(vectors, round(density * vectors.size))
    return vectors.elementwise(lambda stack: elect_and_average(trim(stack, limits)))


def isotropic(matrix: Tensor) -> Tensor:
    """The matrix with its singular values replaced by their mean (arXiv 2502.04959, alg. 1)."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return s.mean() * (u @ vh)


def matrices(architecture: Architecture, base: StateDict) -> frozenset[str]:
    """The weights that multiply features, which spectral merges decompose; tables, norms and biases are none."""
    groups = [*(mlp.keys for mlp in architecture.mlps), *(layer.keys for layer in architecture.attentions)]
    return frozenset(key for keys in groups for key in keys if base[key].ndim == 2)


def add_task_vector(base: StateDict, vector: StateDict, scale: float) -> StateDict:
    """theta0 + scale * tau in the base's dtypes; tensors without a task vector are the base's."""
    return {
        key: torch.add(value, vector[key], alpha=scale).to(value.dtype) if key in vector else value
        for key, value in base.items()
    }


def task_vector(state: StateDict, base: StateDict) -> StateDict:
    """Subtract: tau = theta - theta0 over the floating-point tensors (arXiv 2212.04089)."""
    return {key: state[key] - value for key, value in base.items() if value.is_floating_point()}


def average(states: Sequence[StateDict]) -> StateDict:
    """The mean of the parameters (model soups, arXiv 2203.05482); integer tensors are the first model's."""
    merged = dict(states[0])
    for key, value in states[0].items():
        if value.is_floating_point():
            total = value.to(working_dtype(value), copy=True)
            for state in states[1:]:
                total += state[key]
            merged[key] = total.div_(len(states)).to(value.dtype)
    return merged


def default_scale(models: int) -> float:
    """Task arithmetic's published coefficient: 0.8 for two or three models, 0.3 from four on."""
    return 0.8 if models < 4 else 0.3


def norm(vector: Mapping[str, Tensor]) -> float:
    """Euclidean norm over all tensors."""
    return sum(v.double().square().sum().item() for v in vector.values()) ** 0.5


def drop_and_rescale(vector: StateDict, drop: float, generator: torch.Generator) -> StateDict:
    """Zero each entry with probability ``drop`` and rescale the rest by 1 / (1 - drop) (arXiv 2311.03099).

    All tensors in order, one draw per entry: who gives the same generator gets the same entries.
    """
    return {
        key: v * torch.empty_like(v).bernoulli_(1 - drop, generator=generator) / (1 - drop) for key, v in vector.items()
    }
