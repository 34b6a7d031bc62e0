"""Random elements of the symmetry group: invertible and orthogonal matrices per head, scales per channel."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mergearena.bench.symmetry.architecture import Architecture
from mergearena.bench.symmetry.heads import Gauge

Scaling = Literal["diagonal", "symmetric", "nonsymmetric"]


def unrestricted(maps: Tensor) -> Tensor:
    """Admit every map, as V and O do."""
    return maps


def random_matrices(
    mode: Scaling,
    heads: int,
    width: int,
    generator: torch.Generator,
    admissible: Callable[[Tensor], Tensor] = unrestricted,
) -> Tensor:
    """PaRaMS's random invertible matrices, heads x width x width, float64.

    ``admissible`` projects each on those allowed; one whose condition number exceeds 1e4 is drawn again.
    """
    return torch.stack([_well_conditioned(mode, width, generator, admissible) for _ in range(heads)])


def random_gauges(mode: Scaling, architecture: Architecture, generator: torch.Generator) -> dict[str, Gauge]:
    """A random A and B of :func:`random_matrices` for every head; heads stay in order."""
    return {
        group.name: Gauge(
            random_matrices(mode, group.kv_heads, group.width, generator, group.nearest_admissible),
            random_matrices(mode, group.kv_heads, group.width, generator),
            torch.arange(group.kv_heads),
        )
        for group in architecture.attentions
    }


def bounded(maps: Tensor, condition: float) -> Tensor:
    """Maps (... x d x d) with every singular value raised to at least 1/condition of the map's largest.

    What changes are singular values alone, so a map stays in the algebra that commutes with rotary embeddings.
    """
    u, s, vh = torch.linalg.svd(maps)
    return u * s.clamp(min=s[..., :1] / condition).unsqueeze(-2) @ vh


def random_orthogonal(
    width: int,
    generator: torch.Generator,
    admissible: Callable[[Tensor], Tensor] = unrestricted,
    keeping: Tensor | None = None,
) -> Tensor:
    """A random orthogonal matrix, d x d, float64: the polar factor of a normal matrix, which is uniform (Haar).

    ``admissible`` projects the normal matrix on an algebra, which then holds its polar factor too. Vectors in the
    range of the orthogonal projector ``keeping`` (d x d, in that algebra) stay as they are.
    """
    normal = admissible(torch.randn(width, width, generator=generator, dtype=torch.float64))
    if keeping is not None:
        rest = torch.eye(width, dtype=torch.float64) - keeping
        normal = keeping + rest @ normal @ rest
    u, _, vh = torch.linalg.svd(normal)
    return u @ vh


def uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    """Numbers uniform in [low, high], float64."""
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)


def log_uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    """Numbers in [low, high] whose logarithms are uniform, float64."""
    return uniform(math.log(low), math.log(high), count, generator).exp()


def _well_conditioned(
    mode: Scaling, width: int, generator: torch.Generator, admissible: Callable[[Tensor], Tensor], limit: float = 1e4
) -> Tensor:
    while True:
        matrix = admissible(_random_matrix(mode, width, generator))
        if torch.linalg.cond(matrix) <= limit:
            return matrix


def _random_matrix(mode: Scaling, width: int, generator: torch.Generator) -> Tensor:
    if mode == "diagonal":
        return torch.diag(uniform(0.05, 20, width, generator))
    normal = torch.randn(width, width, generator=generator, dtype=torch.float64)
    if mode == "symmetric":
        orthogonal = torch.linalg.qr(normal).Q
        return orthogonal * log_uniform(0.05, 20, width, generator) @ orthogonal.T
    return (normal + 1e-3 * torch.eye(width)) * log_uniform(0.1, 15, width, generator)
