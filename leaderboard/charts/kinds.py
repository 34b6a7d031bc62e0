"""The kinds of points that plots tell apart."""

from __future__ import annotations

from mergearena.leaderboard.backdoor.parts import MergerPart
from mergearena.leaderboard.protection.parts import DefensePart


def kind(row: DefensePart | MergerPart) -> str:
    """Whether a row is ranked."""
    return "unranked" if row.rank is None else "ranked"
