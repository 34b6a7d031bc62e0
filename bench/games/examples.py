"""The examples that a player may read, from the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from mergearena.bench.files import checkpoints


class LazyExamples(Mapping[str, tuple[Tensor, Tensor]]):
    """Task -> examples, read from disk when first asked for."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def __getitem__(self, task: str) -> tuple[Tensor, Tensor]:
        state = checkpoints.load(self._paths[task], dtype=None)
        return state["inputs"], state["labels"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
