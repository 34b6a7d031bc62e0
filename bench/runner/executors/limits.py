"""What a player's process may use, and how a play can end without an outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mergearena.bench.games.base import Job
from mergearena.bench.players.stand_in import Declaration

Watcher = Callable[[Job, tuple[int, int] | None], None]
"""Told how many of how many steps of a play are done, and None once its player has ended. Called from any thread."""


@dataclass(frozen=True)
class Limits:
    """What a player's process may use."""

    seconds: float = 600.0
    memory_gib: float = 4.0
    threads: int = 1
    plugins: tuple[Path, ...] = ()
    """Files that register players beyond the installed ones."""
    declared: tuple[Declaration, ...] = ()
    """Their players, for processes that do not import them: judges."""
    hidden: tuple[Path, ...] = ()
    """Files and folders that it must not read, beside the private ones of the suite."""


@dataclass(frozen=True)
class Refusal:
    """A judge's answer to a result that cannot be scored."""

    reason: str
    error: str
    foreseen: bool
    """Whether the rules say what is wrong with it."""


class Aborted(Exception):
    """The run is over before the play is: there is no outcome, and nothing to record."""
