"""The roles of the backdoor game: a malicious contributor, a safe merge, a repair."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mergearena.bench import suites
from mergearena.bench.games import backdoor
from mergearena.bench.games.backdoor import presets
from mergearena.bench.games.backdoor.pipeline import Merger, parse_backdoor, parse_merger
from mergearena.bench.games.backdoor.players import Backdoor
from mergearena.bench.games.backdoor.presets import Preset
from mergearena.bench.games.base import Play
from mergearena.bench.games.protocol import protocol
from mergearena.bench.records.official import EXAMPLES
from mergearena.bench.submit import toys
from mergearena.bench.submit.entry import Entry, P
from mergearena.bench.submit.trial import BackdoorTrial


class _Backdoor(Entry[P]):
    """A player of the backdoor game."""

    track = "backdoor"

    def plan(self, suite: str, preset: str, key: str) -> Sequence[Play]:
        """Its plays: mergers and contributors meet each other."""
        grid = presets.preset(preset, suite, tuple(suites.get(suite).tasks))
        used = dict.fromkeys(task for match in grid.matches for task in match.tasks)
        attacks, mergers = self._met(grid)
        return backdoor.plan(protocol(suite, used, key, EXAMPLES), grid.matches, grid.seeds, attacks, mergers)

    @abstractmethod
    def _met(self, grid: Preset) -> tuple[Sequence[Backdoor], Sequence[Merger]]:
        """Who plays in a grid in which it takes part."""


class Contributor(_Backdoor[Backdoor]):
    """It meets every merger of the grid."""

    side = "attack"
    table = "contributors"
    reads = False

    def parse(self, text: str) -> Backdoor:
        """Read a contributor."""
        return parse_backdoor(text)

    def _met(self, grid: Preset) -> tuple[Sequence[Backdoor], Sequence[Merger]]:
        return [self.scored], [parse_merger(text) for text in grid.mergers]

    def _trial(self, **common: Any) -> Play:
        malicious = self.tried.uploads
        return BackdoorTrial(**common, contributors=toys.TASKS, malicious=malicious, attack=self.tried)


class _Merger(_Backdoor[Merger]):
    """It meets every contributor of the grid; on toys, clean uploads."""

    side = "defense"
    table = "mergers"

    def parse(self, text: str) -> Merger:
        """Read a merger."""
        return parse_merger(text)

    def _met(self, grid: Preset) -> tuple[Sequence[Backdoor], Sequence[Merger]]:
        return [parse_backdoor(text) for text in grid.attacks], [self.scored]

    def _trial(self, **common: Any) -> Play:
        return BackdoorTrial(**common, contributors=toys.TASKS, defense=self.tried)


class SafeMerge(_Merger):
    """A merge that is to survive malicious uploads."""

    merges = True


class Repair(_Merger):
    """What takes a backdoor out of a merged model."""

    on_toys = in_score = "task-arithmetic > {}"
