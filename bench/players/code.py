"""The code that a player is: its identity in this process."""

from __future__ import annotations

import hashlib
import inspect
import sys
from functools import cache
from pathlib import Path

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError, UnsupportedArchitecture
from mergearena.bench.players.identity import identity, identity_of_file
from mergearena.bench.players.player import Player
from mergearena.bench.players.registry import registry
from mergearena.bench.symmetry.families import FAMILIES

_OURS = "mergearena"


@cache
def families_of(suite: str) -> tuple[str, ...]:
    """The families of models that players meet on a suite; none where its symmetries are not known.

    Raises:
        UnknownName: there is no such suite.
    """
    try:
        return (suites.get(suite).architecture.family,)
    except UnsupportedArchitecture:
        return ()


@cache
def identity_of(player: type[Player], families: tuple[str, ...]) -> str:
    """The identity of a player that is defined in this process, where it meets these families of models.

    Raises:
        ArenaError: the source of its code is not found.
    """
    file = getattr(sys.modules.get(player.__module__), "__file__", None)
    if _is_ours(player):
        return _of_module(player.__module__, families)
    return identity_of_file(Path(file), families) if file else _of_text(player)


@cache
def _of_module(module: str, families: tuple[str, ...]) -> str:
    return identity(module, families)


def _is_ours(player: type[Player]) -> bool:
    return player.__module__.partition(".")[0] == _OURS


def _of_text(player: type[Player]) -> str:
    """SHA-256 of the text of a player that was typed in: of its function, or of its class."""
    method = getattr(player, registry.kinds[player.kind].method)
    try:
        text = inspect.getsource(inspect.unwrap(method) if hasattr(method, "__wrapped__") else player)
    except (OSError, TypeError):
        raise ArenaError(
            f"{player.name}: the source of its code is not found, so nobody could tell when that changes; put it in a "
            "file and name that with --plugin"
        ) from None
    return hashlib.sha256(text.encode()).hexdigest()


def read_sources() -> None:
    """Read now what this process has imported this project's players from: later edits are not what they are."""
    for module in {player.__module__ for player in registry.players() if _is_ours(player)}:
        identity(module, FAMILIES)
