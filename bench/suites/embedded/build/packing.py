"""What the pack builders share: sizes, lazy imports, removal of duplicates."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np

Pack = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> images N x 28 x 28 uint8, labels N


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Sizes of the published packs, in images per task."""

    seed: int = 0
    train: int = 5000
    validation: int = 300
    test: int = 600
    texture_train: int = 2500  # photographs compress badly, and more patches would overlap the ones here
    letters_per_font: int = 25  # renderings of one letter in one training font
    near_duplicate: float = 0.12  # L2 distance relative to the image's own norm

    def size(self, split: str) -> int:
        """Images asked for in one split."""
        return int(getattr(self, split))


def need(module: str) -> ModuleType:
    """Import a package that carries a source, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"building the packs needs {package}: pip install 'mergearena[zoo]'") from error


def drop_duplicates(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first of each group of identical images."""
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    first.sort()
    return images[first], labels[first]
