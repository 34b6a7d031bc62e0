"""What a player's process may use, and how a play can end without an outcome."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a player's process may use."""

    seconds: float = 600.0
    memory_gib: float = 4.0
    threads: int = 1


@dataclass(frozen=True)
class Refusal:
    """A judge's answer to a result that cannot be scored."""

    reason: str
    error: str
    foreseen: bool
    """Whether the rules say what is wrong with it."""


class Aborted(Exception):
    """The run is over before the play is: there is no outcome, and nothing to record."""
