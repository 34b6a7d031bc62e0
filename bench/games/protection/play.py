"""The plays of the protection game, and the order to run them in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.games import base
from mergearena.bench.games.base import Facts, Files, Played, Steps
from mergearena.bench.games.protection import roles
from mergearena.bench.games.protection.pipeline import Chain, Pipeline
from mergearena.bench.games.protection.record import TRACK, Record
from mergearena.bench.games.protection.scoring import settled
from mergearena.bench.players.player import Player
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import record
from mergearena.bench.suites import Suite


@dataclass(frozen=True, kw_only=True)
class Play(base.Play):
    """A release, or an attack on one."""

    track: ClassVar[str] = TRACK
    scoring: ClassVar[str] = roles.SCORING
    victim: str
    donors: tuple[str, ...] = ()
    defense: Chain
    attack: Pipeline | None = None
    facts: ClassVar[type[Facts]] = roles.Distance

    @property
    def kind(self) -> Literal["release", "attack"]:
        """``release`` or ``attack``."""
        return "release" if self.attack is None else "attack"

    @property
    def title(self) -> str:
        """Defense and attack on the victim."""
        met = f" × {self.attack.spelling}" if self.attack else ""
        return f"{self.defense.spelling}{met} on {self.victim}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it is judged on."""
        return (self.victim, *self.donors)

    @cached_property
    def id(self) -> str:
        """SHA-256 of everything that decides the outcome, players' code aside."""
        attack = self.attack.spelling if self.attack else None
        return self.identified(track=TRACK, donors=self.donors, defense=self.defense.spelling, attack=attack)

    @property
    def players(self) -> list[Player]:
        """The defense's links and the attack's stages."""
        return [*self.defense.defenses, *(self.attack.stages if self.attack else ())]

    @cached_property
    def needs(self) -> Play | None:
        """The release that an attack meets: None for a release itself, and for baselines."""
        if self.attack is None or not self.attack.uses_victim:
            return None
        return Play(protocol=self.protocol, victim=self.victim, seed=self.seed, defense=self.defense)

    @property
    def needed(self) -> bool:
        """Whether it is a release."""
        return self.attack is None

    @property
    def reads(self) -> tuple[str, ...]:
        """Every task of the match, for an attack of a data tier."""
        return self.tasks if self.attack is not None and self.attack.tier is not Tier.DATA_FREE else ()

    @property
    def labelled(self) -> bool:
        """Whether it is an attack of the labelled tier."""
        return self.attack is not None and self.attack.tier is Tier.LABELLED

    def draw(self, task: str) -> tuple[Tensor, Tensor]:
        """K examples that the data tiers may read."""
        suite = suites.get(self.protocol.suite)
        inputs, labels = roles.draw_examples(suite, task, self.protocol.examples, self.seed)
        return inputs, labels if self.labelled else torch.full_like(labels, -1)

    @property
    def models(self) -> tuple[str, ...]:
        """The victim's, for a defense; the donors', for an attack."""
        return (self.victim,) if self.attack is None else self.donors

    @property
    def trains(self) -> tuple[str, ...]:
        """The victim's task, for a defense."""
        return (self.victim,) if self.attack is None else ()

    def shown(self) -> Self:
        """An attack is not shown the run key, from which the defense's draw follows."""
        return self if self.attack is None else replace(self, protocol=replace(self.protocol, key=""))

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Protect, or attack."""
        return (roles.release if self.attack is None else roles.attack)(self, suite, files, progress)

    def judge(self, result: Path, given: Path | None) -> dict[str, Any]:
        """score, logit_difference (releases), evaluation_cost."""
        return roles.judge(self, checkpoints.load(result, dtype=None))

    def settled(self, known: Iterable[record.Record]) -> bool:
        """Whether there is nothing left to recover for this step of a cascade."""
        mine = (self.protocol.suite, self.protocol.examples, self.tasks, self.seed)
        here = [r for r in known if isinstance(r, Record) and (r.suite, r.examples, r.tasks, r.seed) == mine]
        assert self.attack is not None
        return settled(self.defense.spelling, self.attack.tier, here)

    def record(self, **common: Any) -> Record:
        """Its record."""
        attack = self.attack
        return Record(
            kind=self.kind,
            victim=self.victim,
            donors=self.donors,
            defense=self.defense.spelling,
            attack=attack.spelling if attack else None,
            tier=attack.tier if attack else None,
            uses_victim=attack.uses_victim if attack else True,
            extraction=attack.extraction if attack else False,
            claims_function=None if attack else self.defense.preserves_function,
            **common,
        )
