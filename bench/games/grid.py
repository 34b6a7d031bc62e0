"""What a run is asked to play."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """The grid that the command line asks for; empty: the preset's."""

    track: str
    suite: str
    preset: str
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    matches: tuple[str, ...]
    malicious: int
    """Backdoor track: how many of a match's contributors are one attacker's."""
    tier: str
    """The highest tier to play in."""
    seeds: tuple[int, ...]
    examples: int
    key: str
