"""The games: each is a folder of its own, with its matches, plays, references and records.

The runner plays any; nothing outside a game's own folder, its scores and its board knows its rules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from mergearena.bench.errors import UnknownName

if TYPE_CHECKING:
    from mergearena.bench.records.record import Record

TRACKS = ("protection", "backdoor")
"""A track is the name of a game and of the package here that holds it."""


def record_type(track: str) -> type[Record]:
    """What a game records.

    Raises:
        UnknownName: there is no such game.
    """
    if track not in TRACKS:
        raise UnknownName(f"unknown track {track!r}; there are: {', '.join(TRACKS)}")
    return cast("type[Record]", import_module(f"mergearena.bench.games.{track}").Record)
