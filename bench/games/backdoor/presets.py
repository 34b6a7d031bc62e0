"""Presets of the backdoor game: which matches, seeds, mergers and malicious contributors a run plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mergearena.bench.games.backdoor.record import Match
from mergearena.bench.games.presets import Grid, read_presets


class _Grid(Grid):
    contributors: tuple[int, ...] | Literal["every"] | None = None
    """How many of a suite's tasks contribute, a match each; every number of them from two on; None: all of them."""

    def counts(self, tasks: int) -> Sequence[int]:
        """The contributors of each match on a suite of so many tasks."""
        return range(2, tasks + 1) if self.contributors == "every" else self.contributors or (tasks,)


_PRESETS = read_presets(Path(__file__).with_name("presets"), _Grid)
NAMES = _PRESETS.names
MERGERS = _PRESETS.lists["mergers"]
ATTACKS = _PRESETS.lists["attacks"]


@dataclass(frozen=True)
class Preset:
    """The grid of a named preset on one suite."""

    matches: tuple[Match, ...]
    seeds: tuple[int, ...]
    mergers: tuple[str, ...]
    attacks: tuple[str, ...]


def preset(name: str, suite: str, tasks: Sequence[str]) -> Preset:
    """The preset of that name, as ``presets/grids.toml`` has it.

    Raises:
        UnknownName: there is none of that name.
    """
    grid = _PRESETS.grid(name, suite)
    matches = tuple(Match(suite, tuple(tasks[:count])) for count in grid.counts(len(tasks)))
    return Preset(matches, grid.seeds, grid.defenses, grid.attacks)
