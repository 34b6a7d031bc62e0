"""What a run is asked to play."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

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
    jobs: int
    records: Path
    out: Path
    fresh: bool
    keep: bool
    timeout: float
    memory: float
    examples: int
    key: str
    plugins: tuple[Path, ...]
