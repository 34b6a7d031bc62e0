"""Random views of grey images, drawn from a passed generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Turning a silhouette or a texture around keeps its class; turning a letter around does not.
MIRRORED = frozenset({"fashion", "animals", "textures"})


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges of a random view; every value is the largest deviation."""

    turn: float = 0.35  # radians
    zoom: float = 0.30  # of the logarithm of the scale
    shear: float = 0.20
    shift: float = 0.12  # of the side
    stroke: float = 0.60  # share of a 3 x 3 dilation or erosion mixed in
    contrast: float = 0.40
    noise: float = 0.12  # standard deviation, for a picture in [0, 1]


def random_view(grey_n1hw: Tensor, config: AugmentConfig, mirrored: Tensor, generator: torch.Generator) -> Tensor:
    """One random view of each image.

    Args:
        grey_n1hw: N x 1 x H x W in [0, 1].
        config: ranges.
        mirrored: N booleans, which images may be mirrored left to right.
        generator: source of randomness.

    Returns:
        N x 1 x H x W in [0, 1].

    """
    count = len(grey_n1hw)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle, scale, shear = uniform(config.turn), torch.exp(uniform(config.zoom)), uniform(config.shear)
    flip = torch.where(mirrored & (torch.rand(count, generator=generator) < 0.5), -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [
        cosine * flip,
        sine + shear * scale,
        uniform(2 * config.shift),
        -sine * flip,
        cosine,
        uniform(2 * config.shift),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1).view(count, 2, 3), list(grey_n1hw.shape), align_corners=False)
    view = F.grid_sample(grey_n1hw, grid, padding_mode="reflection", align_corners=False)
    if config.stroke:
        amount = uniform(config.stroke).view(-1, 1, 1, 1)
        thick = F.max_pool2d(view, 3, stride=1, padding=1)
        thin = -F.max_pool2d(-view, 3, stride=1, padding=1)
        view = torch.lerp(view, torch.where(amount > 0, thick, thin), amount.abs())
    view = view * (1 + uniform(config.contrast)).view(-1, 1, 1, 1)
    spread = torch.rand(count, generator=generator).view(-1, 1, 1, 1) * config.noise
    return (view + spread * torch.randn(view.shape, generator=generator)).clamp(0, 1)


def to_model_input(grey_n1hw: Tensor) -> Tensor:
    """N x 1 x H x W in [0, 1] -> N x 3 x H x W in [-1, 1]."""
    return (grey_n1hw * 2 - 1).expand(-1, 3, -1, -1)
