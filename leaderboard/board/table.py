"""A board as one flat table, and a written board read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mergearena.bench.errors import ArenaError
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.leaderboard import Leaderboard, model_of

COMMITTED = Path(__file__).parents[1] / "leaderboard.json"
"""The project's own board."""
_SHARED = {"players", "submissions", "schema_version"}


def read(path: Path = COMMITTED) -> Leaderboard:
    """A board as its JSON was written.

    Raises:
        ArenaError: there is no such file, or it is no board of this version.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError("it is not a JSON object")
        return model_of(fields.keys() - _SHARED).model_validate(fields)
    except OSError as error:
        raise ArenaError(f"{path}: {error.strerror}; `mergearena run` and `leaderboard build` write boards") from None
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ArenaError(
            f"{path}: it is no board of this version ({reason}); build it again from its records"
        ) from None


def rows(board: Leaderboard) -> Iterator[dict[str, Any]]:
    """A row per game, suite, ranking and who stands in it, with its numbers and texts by name.

    Of a mean with its interval there are three columns, ``resistance data-free``, ``resistance data-free low`` and
    ``... high``; lists, such as those of single matches, are left out.
    """
    for game, suites in board.games.items():
        for suite in suites:
            for ranking in board_of(game).rankings:
                for row in getattr(suite, ranking):
                    place = {"game": game, "suite": suite.suite, "ranking": ranking}
                    yield place | dict(_flat(row.model_dump(mode="json")))


def _flat(fields: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of every number and text, those of inner parts under both names."""
    for name, value in fields.items():
        path = above if above and name == "mean" else f"{above} {name}".lstrip()
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        elif not isinstance(value, list):
            yield path, value
