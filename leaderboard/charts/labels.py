"""Letters beside the points of a plot, where they cover nothing: points that lie together share a label."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain

TOGETHER = 9.0
"""Pixels between points under which they share a label."""
_LETTER, _LINE = 7.0, 13.0
_GAPS = (7.0, 20.0)
"""Pixels from point to label: beside it, and where there is no room, further off."""
_ASTRAY = 50.0
"""As bad as covering so many square pixels: to stand nearer to somebody else's point."""
_MARGIN = 30.0
"""Pixels to the right of the panel that labels may take: fidelity is mostly 1, at its edge."""

Spot = tuple[str, float, float]
"""Letter, x, y."""


@dataclass(frozen=True)
class Label:
    """A text centred at x, y, in pixels from the panel's top left."""

    text: str
    x: float
    y: float


def key(place: int) -> str:
    """The letter of a row: A to Z, then AA, AB, ..."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def place(spots: Sequence[Spot], width: float, height: float) -> list[Label]:
    """One label per group of points that lie together, beside them and within the panel if there is room."""
    boxes = [(x - 4, y - 4, x + 4, y + 4) for _, x, y in spots]
    labels = []
    for group in _groups(spots):
        text = ",".join(_runs([letters for letters, _, _ in group]))
        half = _LETTER * len(text) / 2
        options = list(_options(group, half, width, height))
        costs = [
            sum(_overlap(_box(at, half), box) for box in boxes) + _ASTRAY * (_nearest(spots, at) not in group)
            for at in options
        ]
        best = options[costs.index(min(costs))]
        boxes.append(_box(best, half))
        labels.append(Label(text, round(best[0], 2), round(best[1], 2)))
    return labels


def _groups(spots: Sequence[Spot]) -> list[list[Spot]]:
    """Single linkage: points that are near each other, or joined by points that are."""
    groups: list[list[Spot]] = []
    for spot in spots:
        near = [g for g in groups if any(abs(spot[1] - x) + abs(spot[2] - y) < TOGETHER for _, x, y in g)]
        groups = [g for g in groups if g not in near] + [[*chain.from_iterable(near), spot]]
    order = {letters: i for i, (letters, _, _) in enumerate(spots)}
    return [sorted(g, key=lambda s: order[s[0]]) for g in groups]


def _runs(letters: Sequence[str]) -> Iterator[str]:
    """A, B, C, E -> A–C, E."""
    at = [reduce(lambda number, letter: 26 * number + ord(letter) - ord("A") + 1, text.upper(), 0) for text in letters]
    start = 0
    for i in range(1, len(at) + 1):
        if i == len(at) or at[i] != at[i - 1] + 1:
            first, last = letters[start], letters[i - 1]
            yield from [first, last][: i - start] if i - start < 3 else [f"{first}–{last}"]
            start = i


def _options(group: Sequence[Spot], half: float, width: float, height: float) -> Iterator[tuple[float, float]]:
    """Where a group's label can stand, the best first: beside, above, below, diagonally, and all that further off."""
    xs, ys = [x for _, x, _ in group], [y for _, _, y in group]
    middle_x, middle_y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    for gap in _GAPS:
        right, left = max(xs) + gap + half, min(xs) - gap - half
        above, below = min(ys) - gap - _LINE / 2, max(ys) + gap + _LINE / 2
        around = [(right, middle_y), (left, middle_y), (middle_x, above), (middle_x, below)]
        around += [(right, above), (left, above), (right, below), (left, below)]
        for x, y in around:
            yield min(max(x, half + 2), width + _MARGIN - half), min(max(y, -_LINE / 2), height)


def _nearest(spots: Sequence[Spot], at: tuple[float, float]) -> Spot:
    """The point that a reader would take a label there to belong to."""
    return min(spots, key=lambda spot: math.hypot(spot[1] - at[0], spot[2] - at[1]))


def _box(at: tuple[float, float], half: float) -> tuple[float, float, float, float]:
    return at[0] - half, at[1] - _LINE / 2, at[0] + half, at[1] + _LINE / 2


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """The area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)
