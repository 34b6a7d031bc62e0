"""Presets of the protection game: which matches, seeds, defenses and attacks a run plays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Literal

from pydantic import RootModel

from mergearena.bench.games.match import parse_tasks
from mergearena.bench.games.presets import Grid, read_presets, read_toml
from mergearena.bench.games.protection.record import Match

_FOLDER = Path(__file__).with_name("presets")
_DONOR = "{donor}"
"""In an attack: the place of one of the donors. The attack is played once for each."""


class _Grid(Grid):
    matches: int | Literal["every"] | None = None
    """How many of the suite's, the first ones; every pair, and every victim against all others; None: the suite's."""


_PRESETS = read_presets(_FOLDER, _Grid)
_MATCHES = read_toml(_FOLDER / "matches.toml", RootModel[dict[str, tuple[str, ...]]]).root
NAMES = _PRESETS.names
BASELINES = _PRESETS.lists["baselines"]
REPRESENTATIVE = _PRESETS.lists["representative"]
CATALOGUE = _PRESETS.lists["catalogue"]
AUTO_NAME = "auto"
AUTO = _PRESETS.lists[AUTO_NAME]
NAIVE_AND_AUTO = _PRESETS.lists["naive-and-auto"]


@dataclass(frozen=True)
class Preset:
    """The grid of a named preset on one suite."""

    matches: tuple[Match, ...]
    seeds: tuple[int, ...]
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]


def preset(name: str, suite: str, tasks: Sequence[str]) -> Preset:
    """The preset of that name, as ``presets/grids.toml`` has it.

    Raises:
        UnknownName: there is none of that name.
    """
    grid = _PRESETS.grid(name, suite)
    groups = _every(tasks) if grid.matches == "every" else _matches(suite, tasks)[: grid.matches]
    matches = tuple(Match(suite, victim, tuple(donors)) for victim, *donors in groups)
    return Preset(matches, grid.seeds, grid.defenses, tuple(_per_donor(grid.attacks, len(tasks) - 1)))


def _matches(suite: str, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """A suite's matches; of a suite that is not known here, every task as a victim, and the next one as its donor."""
    if suite in _MATCHES:
        return [parse_tasks(text, suite, tasks) for text in _MATCHES[suite]]
    return list(zip(tasks, (*tasks[1:], *tasks[:1]), strict=True))


def _every(tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Every ordered pair, then every victim against all other tasks at once."""
    return [*permutations(tasks, 2), *((victim, *(t for t in tasks if t != victim)) for victim in tasks)]


def _per_donor(attacks: Iterable[str], donors: int) -> Iterable[str]:
    for attack in attacks:
        for donor in range(donors if _DONOR in attack else 1):
            yield attack.replace(_DONOR, str(donor))
