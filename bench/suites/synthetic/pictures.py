"""Synthetic grey pictures, N x S x S in [-1, 1]: what an attacker without data can show a model.

Each family is a function of how many, of the side S and of a generator, its only source of randomness. No family draws
a glyph, a font or a recorded picture: curves, regions and spectra are random. Shapes below: N pictures, S pixels a
side, K parts of a picture, P points of a curve.

Dead leaves: Lee, Mumford & Huang, IJCV 2001; spectra and leaves as training inputs: arXiv 2106.05963.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Family = Callable[[int, int, Generator], Tensor]


def smooth(count: int, side: int, generator: Generator) -> Tensor:
    """Normal noise of S/4 and, half as strong, of S/2 pixels a side, interpolated."""
    coarse, fine = (
        F.interpolate(torch.randn(count, 1, n, n, generator=generator), size=(side, side), mode="bicubic")
        for n in (side // 4, side // 2)
    )
    return (coarse + 0.5 * fine).clamp(-1, 1).squeeze(1)


def spectral(count: int, side: int, generator: Generator) -> Tensor:
    """Noise with amplitudes |A f|^-a, a uniform in [0.5, 2.5], A a random stretching: oriented textures."""
    frequencies = torch.fft.fftfreq(side)
    plane = torch.stack(torch.meshgrid(frequencies, frequencies, indexing="ij"), dim=-1)
    angle = torch.pi * torch.rand(count, generator=generator)
    stretch = torch.exp(1.5 * torch.randn(count, generator=generator))
    along = torch.stack([angle.cos(), angle.sin()], dim=-1)
    across = torch.stack([-angle.sin(), angle.cos()], dim=-1)
    u, v = (torch.einsum("ijk,nk->nij", plane, direction) for direction in (along, across))
    radius = (u.square() + (stretch[:, None, None] * v).square()).sqrt().clamp(min=1 / side)
    power = _uniform(count, 0.5, 2.5, generator)[:, None, None]
    noise = torch.fft.fft2(torch.randn(count, side, side, generator=generator))
    return _stretched(torch.fft.ifft2(noise * radius**-power).real)


def strokes(count: int, side: int, generator: Generator, most: int = 4, points: int = 16) -> Tensor:
    """Up to ``most`` quadratic Bezier curves of random width, bright on dark."""
    drawn, end = torch.zeros(count, side, side), torch.zeros(count, 2)
    grid = _grid(side)
    t = torch.linspace(0, 1, points)[:, None]
    weights = torch.cat([(1 - t) ** 2, 2 * t * (1 - t), t**2], dim=1)
    for number in range(most):
        corners = _uniform((count, 3, 2), -0.8, 0.8, generator)
        if number:
            joined = torch.rand(count, generator=generator) < 0.5
            corners[joined, 0] = end[joined]
        curve, end = weights @ corners, corners[:, 2]
        distance = torch.cdist(grid.flatten(0, 1).expand(count, -1, -1), curve).amin(-1).view(count, side, side)
        width = _uniform((count, 1, 1), 0.04, 0.2, generator)
        ink = torch.sigmoid((width - distance) * side / 1.5)
        there = (torch.rand(count, 1, 1, generator=generator) < 0.75) | (number == 0)
        drawn = torch.where(there, torch.maximum(drawn, ink), drawn)
    return 2 * drawn - 1


def shapes(count: int, side: int, generator: Generator) -> Tensor:
    """A smooth closed outline r(phi), of up to five random harmonics, filled bright on dark."""
    return 2 * _filled(count, side, generator) - 1


def dead_leaves(count: int, side: int, generator: Generator, leaves: int = 40) -> Tensor:
    """Discs that hide one another, radii from a power law r^-3 between 0.08 and 1, greys uniform."""
    grid, drawn = _grid(side), torch.zeros(count, side, side)
    for _ in range(leaves):
        centre = _uniform((count, 1, 1, 2), -1.2, 1.2, generator)
        u = torch.rand(count, 1, 1, generator=generator)
        radius = (0.08**-2 - u * (0.08**-2 - 1.0)) ** -0.5
        inside = (grid - centre).norm(dim=-1) < radius
        drawn = torch.where(inside, _uniform((count, 1, 1), -1, 1, generator), drawn)
    return drawn


def textured_shapes(count: int, side: int, generator: Generator) -> Tensor:
    """A filled outline of one texture on another, as an object on its ground; half of the grounds are plain."""
    mask = _filled(count, side, generator)
    figure, ground = (spectral(count, side, generator) for _ in range(2))
    plain = torch.rand(count, 1, 1, generator=generator) < 0.5
    ground = torch.where(plain, _uniform((count, 1, 1), -1, 1, generator).expand_as(ground), ground)
    return mask * figure + (1 - mask) * ground


FAMILIES: dict[str, Family] = {
    "smooth": smooth,
    "spectral": spectral,
    "strokes": strokes,
    "shapes": shapes,
    "dead-leaves": dead_leaves,
    "textured-shapes": textured_shapes,
}


def mixed(count: int, side: int, generator: Generator) -> Tensor:
    """Every family in equal parts, each picture softened, flattened and inverted at random, in random order."""
    parts = [len(part) for part in torch.arange(count).tensor_split(len(FAMILIES))]
    drawn = [varied(f(n, side, generator), generator) for f, n in zip(FAMILIES.values(), parts, strict=True) if n]
    pictures = torch.cat(drawn) if drawn else torch.empty(0, side, side)
    return pictures[torch.randperm(len(pictures), generator=generator)]


def varied(pictures: Tensor, generator: Generator) -> Tensor:
    """Pictures N x S x S blurred (a third of them), their contrast cut to 0.4 to 1, inverted (a quarter of them)."""
    count = len(pictures)
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16)[None, None]
    padded = F.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")
    soft = torch.rand(count, 1, 1, generator=generator) < 1 / 3
    pictures = torch.where(soft, F.conv2d(padded, kernel)[:, 0], pictures)
    contrast = _uniform((count, 1, 1), 0.4, 1.0, generator)
    level = _uniform((count, 1, 1), -1, 1, generator) * (1 - contrast)
    inverted = torch.rand(count, 1, 1, generator=generator) < 0.25
    return torch.where(inverted, -pictures, pictures) * contrast + level


def _filled(count: int, side: int, generator: Generator) -> Tensor:
    """Share of each pixel inside a random outline, N x S x S in [0, 1]."""
    grid = _grid(side) - _uniform((count, 1, 1, 2), -0.3, 0.3, generator)
    radius, phi = grid.norm(dim=-1), torch.atan2(grid[..., 0], grid[..., 1])
    outline = _uniform((count, 1, 1), 0.3, 0.8, generator).expand(count, side, side)
    for harmonic in range(1, 6):
        size = 0.35 * torch.rand(count, 1, 1, generator=generator) / harmonic
        phase = 2 * torch.pi * torch.rand(count, 1, 1, generator=generator)
        outline = outline * (1 + size * torch.cos(harmonic * phi + phase))
    return torch.sigmoid((outline - radius) * side / 1.5)


def _grid(side: int) -> Tensor:
    """Pixel centres, S x S x 2, in [-1, 1]."""
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)


def _stretched(pictures: Tensor) -> Tensor:
    """Pictures centred and scaled to two standard deviations, cut to [-1, 1]."""
    mean, deviation = pictures.mean((-2, -1), keepdim=True), pictures.std((-2, -1), keepdim=True)
    return ((pictures - mean) / (2 * deviation.clamp(min=1e-6))).clamp(-1, 1)


def _uniform(shape: int | tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)
