"""The whole board."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from types import GenericAlias
from typing import Any, Literal, TypeVar

from pydantic import create_model

from mergearena.bench.errors import ArenaError
from mergearena.bench.games.game import games
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.parts import Part, PlayerPart, SubmissionPart, SuitePart

B = TypeVar("B", bound=SuitePart)


class Leaderboard(Part):
    """The whole board: one board per game and suite. Each game has a field of its own; see :func:`model_of`."""

    schema_version: Literal[6] = 6
    players: tuple[PlayerPart, ...] = ()
    submissions: tuple[SubmissionPart, ...] = ()

    @property
    def games(self) -> dict[str, tuple[SuitePart, ...]]:
        """Game -> the boards of its suites, in the order in which games are shown."""
        known = [game.name for game in games.every() if game.name in type(self).model_fields]
        return {name: getattr(self, name) for name in known}

    def of(self, part: type[B]) -> tuple[B, ...]:
        """The boards of one game: of the suites that have one, in the order of their names."""
        return tuple(board for boards in self.games.values() for board in boards if isinstance(board, part))


def model_of(names: Iterable[str] = ()) -> type[Leaderboard]:
    """The model of a board of this project's games and of these.

    Raises:
        ArenaError: a game has the name of something else that a board has.
    """
    parts = {name: board_of(name).part for name in sorted({*games.own, *names})}
    if taken := parts.keys() & Leaderboard.model_fields.keys():
        raise ArenaError(f"a board has its own {min(taken)!r}; the game of that name needs another")
    return _model(tuple(parts.items()))


@lru_cache(maxsize=16)
def _model(parts: tuple[tuple[str, type[SuitePart]], ...]) -> type[Leaderboard]:
    fields: dict[str, Any] = {name: (GenericAlias(tuple, (part, ...)), ()) for name, part in parts}
    doc = "The whole board: one board per game and suite."
    return create_model("Leaderboard", __base__=Leaderboard, __doc__=doc, __module__=__name__, **fields)
