"""The roles of the protection game: a defense, a stage of an attack, a whole attack."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from mergearena.bench import suites
from mergearena.bench.games import protection
from mergearena.bench.games.base import Play
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import Chain, Pipeline, parse_attack, parse_defense
from mergearena.bench.games.protection.presets import Preset
from mergearena.bench.games.protocol import protocol
from mergearena.bench.records.official import EXAMPLES, KEY
from mergearena.bench.submit import toys
from mergearena.bench.submit.entry import Entry, P
from mergearena.bench.submit.trial import ProtectionTrial

_ALIGNED = "weight-matching+gauge-anchor"
_VICTIM, *_DONORS = toys.TASKS
_Opponents = tuple[Sequence[Chain], Sequence[Pipeline], Sequence[Pipeline]]
"""Defenses, attacks, and steps of a cascade."""


class _Protection(Entry[P]):
    """A player of the protection game."""

    track = "protection"

    def plan(self, suite: str, preset: str, key: str) -> Sequence[Play]:
        """Its plays, references under the public key."""
        grid = presets.preset(preset, suite, tuple(suites.get(suite).tasks))
        baselines = [parse_attack(text) for text in grid.attacks if text in presets.BASELINES]
        defenses, attacks, cascade = self._met(grid)
        used = dict.fromkeys(task for match in grid.matches for task in match.tasks)
        return protection.plan(
            protocol(suite, used, key, EXAMPLES),
            grid.matches,
            grid.seeds,
            defenses,
            [*baselines, *attacks],
            cascade,
            public=protocol(suite, used, KEY, EXAMPLES),
        )

    @abstractmethod
    def _met(self, grid: Preset) -> _Opponents:
        """Who plays in a grid in which it takes part, baselines apart."""


class Defense(_Protection[Chain]):
    """It meets the naive attack and ``auto``."""

    side = "defense"
    table = "defenses"
    protects = True
    reads = False

    def parse(self, text: str) -> Chain:
        """Read a chain."""
        return parse_defense(text)

    def _met(self, grid: Preset) -> _Opponents:
        naive = parse_attack(presets.REPRESENTATIVE[0])
        return [self.scored], [naive], [parse_attack(step) for step in presets.AUTO]

    def _trial(self, **common: Any) -> Play:
        return ProtectionTrial(**common, victim=_VICTIM, defense=self.tried)


class Attack(_Protection[Pipeline]):
    """A whole attack. It meets every defense of the grid; on toys, an undefended victim."""

    side = "attack"
    table = "attacks"
    donors: ClassVar[Sequence[str]] = _DONORS[:1]
    """Of a toy."""

    def parse(self, text: str) -> Pipeline:
        """Read a pipeline."""
        return parse_attack(text)

    def _met(self, grid: Preset) -> _Opponents:
        along = [text for text in grid.attacks if text not in (*presets.BASELINES, presets.AUTO_NAME)]
        attacks = [*map(parse_attack, along), self.scored]
        return [parse_defense(text) for text in grid.defenses], attacks, ()

    def _trial(self, **common: Any) -> Play:
        none, donors = parse_defense("none"), tuple(self.donors)
        return ProtectionTrial(**common, victim=_VICTIM, donors=donors, defense=none, attack=self.tried)


class Align(Attack):
    """The first stage of an attack."""

    on_toys = in_score = "{} > task-arithmetic"


class Merge(Attack):
    """The second stage of an attack; on toys it merges the models of all tasks."""

    on_toys = "identity > {}"
    in_score = f"{_ALIGNED} > {{}}"
    merges = True
    donors = _DONORS


class Recover(Attack):
    """The last stage of an attack."""

    on_toys = "identity > task-arithmetic > {}"
    in_score = f"{_ALIGNED} > task-arithmetic > {{}}"
