"""The plays of the protection game, and the order to run them in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from bench import checkpoints, records, suites
from bench.game import Player, Tier
from bench.games import base
from bench.games.base import Facts, Files, Played, Protocol, Steps
from bench.games.protection import rules
from bench.games.protection.record import TRACK, Match, Record
from bench.pipeline import Chain, Pipeline, parse_attack, parse_defense
from bench.scoring import reference, worst_case
from bench.suites import Suite

ENOUGH = 0.99
"""Share of a victim's skill after which a cascade attacks a match no further."""


@dataclass(frozen=True, kw_only=True)
class Play(base.Play):
    """A release, or an attack on one."""

    victim: str
    donors: tuple[str, ...] = ()
    defense: str
    attack: str | None = None
    facts: ClassVar[type[Facts]] = rules.Distance

    @property
    def kind(self) -> Literal["release", "attack"]:
        """``release`` or ``attack``."""
        return "release" if self.attack is None else "attack"

    @property
    def title(self) -> str:
        """Defense and attack on the victim."""
        met = f" × {self.attack}" if self.attack else ""
        return f"{self.defense}{met} on {self.victim}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it is judged on."""
        return (self.victim, *self.donors)

    @cached_property
    def id(self) -> str:
        """SHA-256 of everything that decides the outcome, players' code aside."""
        return self.identified(track=TRACK, donors=self.donors, defense=self.defense, attack=self.attack)

    @property
    def chain(self) -> Chain:
        """The parsed defense."""
        return parse_defense(self.defense)

    @property
    def pipeline(self) -> Pipeline:
        """The parsed attack."""
        assert self.attack is not None
        return parse_attack(self.attack)

    @property
    def players(self) -> list[Player]:
        """The defense's links and the attack's stages."""
        return [*self.chain.defenses, *(self.pipeline.stages if self.attack else ())]

    @cached_property
    def needs(self) -> Play | None:
        """The release that an attack meets: None for a release itself, and for baselines."""
        if self.attack is None or not self.pipeline.uses_victim:
            return None
        return Play(protocol=self.protocol, victim=self.victim, seed=self.seed, defense=self.defense)

    @property
    def needed(self) -> bool:
        """Whether it is a release."""
        return self.attack is None

    @property
    def reads(self) -> tuple[str, ...]:
        """Every task of the match, for an attack of a data tier."""
        return self.tasks if self.attack is not None and self.pipeline.tier is not Tier.DATA_FREE else ()

    @property
    def labelled(self) -> bool:
        """Whether it is an attack of the labelled tier."""
        return self.attack is not None and self.pipeline.tier is Tier.LABELLED

    def draw(self, task: str) -> tuple[Tensor, Tensor]:
        """K examples that the data tiers may read."""
        suite = suites.get(self.protocol.suite)
        inputs, labels = rules.draw_examples(suite, task, self.protocol.examples, self.seed)
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
        return (rules.release if self.attack is None else rules.attack)(self, suite, files, progress)

    def judge(self, result: Path, given: Path | None) -> dict[str, Any]:
        """accuracy, logit_difference (releases), evaluation_cost."""
        return rules.judge(self, checkpoints.load(result, dtype=None))

    def settled(self, known: Iterable[records.Record]) -> bool:
        """Whether there is nothing left to recover for this step of a cascade."""
        here = [r for r in known if isinstance(r, Record) and (r.tasks, r.seed) == (self.tasks, self.seed)]
        return settled(self.defense, self.pipeline.tier, here)

    def record(self, **common: Any) -> Record:
        """Its record."""
        attack = self.pipeline if self.attack else None
        return Record(
            kind=self.kind,
            victim=self.victim,
            donors=self.donors,
            defense=self.defense,
            attack=self.attack,
            tier=attack.tier if attack else None,
            uses_victim=attack.uses_victim if attack else True,
            extraction=attack.extraction if attack else False,
            claims_function=None if attack else self.chain.preserves_function,
            **common,
        )


def plan(
    protocol: Protocol,
    matches: Iterable[Match],
    seeds: Sequence[int],
    defenses: Sequence[Chain],
    attacks: Sequence[Pipeline],
    cascade: Sequence[Pipeline] = (),
    public: Protocol | None = None,
) -> list[Play]:
    """The grid as plays, in the order to run them: references first, so that scores appear as soon as they can.

    ``none`` is always played, since it sets the ceiling; so is every baseline, once per match and seed. Releases are
    shared between matches with the same victim. The pipelines of ``cascade`` meet a defense one after the other, for
    as long as :func:`settled` says that there is something left to recover; all of them meet ``none``.

    Nothing that is played against ``none`` is secret: with a protocol of their own, ``public``, such plays can be
    shared by runs whose keys differ.
    """
    spelled = dict.fromkeys(["none", *(chain.spelling for chain in defenses)])
    baselines = [pipeline for pipeline in attacks if not pipeline.uses_victim]
    against = dict.fromkeys(pipeline.spelling for pipeline in attacks if pipeline.uses_victim)
    steps = dict.fromkeys(pipeline.spelling for pipeline in cascade)
    plays: dict[str, Play] = {}

    def put(play: Play) -> str:
        return plays.setdefault(play.id, play).id

    for match in matches:
        for seed in seeds:
            of_none = Play(protocol=public or protocol, victim=match.victim, seed=seed, defense="none")
            put(of_none)
            everything = [*(pipeline.spelling for pipeline in baselines), *against, *steps]
            references = [put(replace(of_none, donors=match.donors, attack=a)) for a in dict.fromkeys(everything)]
            for defense in spelled:
                release = of_none if defense == "none" else replace(of_none, protocol=protocol, defense=defense)
                put(release)
                done = [put(replace(release, donors=match.donors, attack=attack)) for attack in against]
                for step in steps if defense != "none" else ():
                    after = (*references, *done)
                    done.append(put(replace(release, donors=match.donors, attack=step, after=after)))
    return sorted(plays.values(), key=lambda play: (play.kind == "attack", play.defense != "none"))


def settled(defense: str, tier: Tier, known: Iterable[Record]) -> bool:
    """Whether a cascade's attack of that tier on a defense is not needed: in every tier that it could count in, the
    match is no match or the strongest attack so far recovers :data:`ENOUGH`. ``known``: records of the match and seed.
    """
    known = [record for record in known if record.attack is not None]
    against = [record for record in known if record.defense == defense]
    for counted in Tier:
        if not counted.allows(tier):
            continue
        points = reference(known, counted)
        if points is None:
            return False
        allowed = (record for record in against if record.tier and counted.allows(record.tier))
        if points.is_match and worst_case(allowed, points).recovered < ENOUGH:
            return False
    return True
