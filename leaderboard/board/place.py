"""Where a scored player stands among those of a board, by the ranking in which it has a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from rich.console import RenderableType

from mergearena.bench.errors import ArenaError
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.board.table import read


class Scored(Protocol):
    """A player that was scored."""

    @property
    def track(self) -> str:
        """Its game."""

    @property
    def table(self) -> str:
        """The ranking of that game in which it has a row."""

    @property
    def spelling(self) -> str:
        """What that row is called."""


def place(entry: Scored, mine: Leaderboard, others: Leaderboard | None) -> str:
    """One sentence: its score, and its place on ``others``, or, if that has nobody to compare with, among what was
    played along.
    """
    ranking, own = board_of(entry.track).rankings[entry.table], mine.games[entry.track]
    official = () if others is None else others.games.get(entry.track, ())
    if any(map(ranking.has_rows, official)):
        return ranking.sentence(entry.spelling, own, official, "on the committed board")
    return ranking.sentence(entry.spelling, own, own, "among those played along")


def shown(entry: Scored, board: Leaderboard) -> Iterator[RenderableType]:
    """What of a board concerns a player."""
    ranking = board_of(entry.track).rankings[entry.table]
    for suite in board.games[entry.track]:
        yield from ranking.shown(entry.spelling, suite)


def committed(suite: str, path: Path) -> Leaderboard | None:
    """The committed board's part on one suite, or None if there is no board that can be read."""
    try:
        board = read(path)
    except ArenaError:
        return None
    kept = {name: tuple(part for part in parts if part.suite == suite) for name, parts in board.games.items()}
    return board.model_copy(update=kept)
