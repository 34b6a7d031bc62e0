"""Whether a suite's splits are apart: an example of two splits is learnt on one and then counted as skill on the other.

Examples are compared by content, so that copies are found whatever their labels; near copies are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

import numpy as np
from torch import Tensor

from mergearena.bench.suites.base import Split, Suite


@dataclass(frozen=True)
class Leak:
    """Examples that two splits of a task share."""

    task: str
    splits: tuple[Split, Split]
    count: int

    def __str__(self) -> str:
        examples = "1 example is" if self.count == 1 else f"{self.count} examples are"
        return f"{self.task}: {examples} in both {self.splits[0]} and {self.splits[1]}"


def leaks(suite: Suite) -> Iterator[Leak]:
    """Every pair of splits of one task that share examples; nothing if the suite is sound."""
    for task in suite.tasks:
        found = {split: set(map(_digest, suite.load(task, split)[0])) for split in get_args(Split)}
        for pair in combinations(get_args(Split), 2):
            if shared := found[pair[0]] & found[pair[1]]:
                yield Leak(task, pair, len(shared))


def _digest(example: Tensor) -> bytes:
    """SHA-256 of one example. A text's padding, which is as long as its split wants it, is left out."""
    values = example.numpy()
    return hashlib.sha256((np.trim_zeros(values, "b") if values.ndim == 1 else values).tobytes()).digest()
