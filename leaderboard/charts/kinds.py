"""The kinds of points that plots tell apart."""

from __future__ import annotations

from typing import Protocol


class Ranked(Protocol):
    """A row of a ranking."""

    @property
    def rank(self) -> int | None:
        """None: not ranked."""


def kind(row: Ranked) -> str:
    """Whether a row is ranked."""
    return "unranked" if row.rank is None else "ranked"
