"""Means over matches and seeds with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

import numpy as np

T = TypeVar("T")


K = TypeVar("K")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether two intervals share a point: a tie."""
        return self.low <= other.high and other.low <= self.high


def bootstrap(by_match: Sequence[Sequence[float]], resamples: int = 2000) -> Interval:
    """Mean over matches of the mean over seeds; matches and, within them, seeds are drawn with replacement.

    Deterministic: the generator's seed is fixed.
    """
    rng = np.random.default_rng(0)
    picked = rng.integers(len(by_match), size=(resamples, len(by_match)))
    means = np.stack(
        [rng.choice(np.asarray(values), size=(resamples, len(values))).mean(1) for values in by_match], axis=1
    )
    samples = np.take_along_axis(means, picked, axis=1).mean(1)
    low, high = np.quantile(samples, [0.025, 0.975])
    mean = fmean(fmean(values) for values in by_match)
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def group(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by key, in order of first appearance."""
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
