"""The protection game: a defense rewrites a victim before release, an attack merges it all the same.

A match is (suite, victim, donors). Its plays are *releases* (a defense rewrites the victim; shared by every attack
on it) and *attacks* (a pipeline meets one released model, or plays as a baseline without it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

from bench import checkpoints, records, suites
from bench.checkpoints import StateDict
from bench.cost import metered
from bench.game import AttackerView, DefenderView, Player, Reads, Tier
from bench.games import base
from bench.games.base import SPLITS, LazyExamples, Played, Protocol, Steps, forward_flops, seeded
from bench.merging import norm, task_vector
from bench.pipeline import Chain, Pipeline, parse_attack, parse_defense
from bench.records import Accuracy, identify
from bench.scoring import reference, worst_case
from bench.suites import Suite

TRACK = "protection"
ENOUGH = 0.99
"""Share of a victim's skill after which a cascade attacks a match no further."""


@dataclass(frozen=True)
class Match:
    """One victim and the donors it is merged with, on one suite."""

    suite: str
    victim: str
    donors: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The victim's task and the donors'."""
        return (self.victim, *self.donors)

    @property
    def spelling(self) -> str:
        """``victim+donor+...``, as on the command line."""
        return "+".join(self.tasks)


class Record(records.Record):
    """One play. ``release``: a defense rewrote a victim. ``attack``: a pipeline met a released model."""

    track: Literal["protection"] = "protection"
    kind: Literal["release", "attack"]
    victim: str
    donors: tuple[str, ...]
    """Empty for a release, which does not depend on them."""
    defense: str
    attack: str | None = None
    tier: Tier | None = None
    uses_victim: bool = True
    """False for baselines, which measure the floor."""
    extraction: bool = False
    """Whether the attack needs the released model's answers rather than its weights."""
    claims_function: bool | None = None
    """Releases: whether the defense claims to preserve the function."""
    logit_difference: float | None = None
    """Releases: largest |difference| of logits from the victim's on held-out inputs / largest |logit|."""
    task_vector_ratio: float | None = None
    """Attacks: norm of the aligned victim's task vector / mean norm of the donors'."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "attack") != (self.attack is not None and self.tier is not None):
            raise ValueError("an attack record names its attack and tier, a release neither")
        return self

    @property
    def match(self) -> tuple[str, str, tuple[str, ...]]:
        """(suite, victim, donors)."""
        return self.suite, self.victim, self.donors

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the match, the victim first."""
        return (self.victim, *self.donors)

    @property
    def title(self) -> str:
        """Defense and attack."""
        return f"{self.defense} × {self.attack or 'release'}"

    @property
    def place(self) -> tuple[str, ...]:
        """Match, defense, attack."""
        return "+".join(self.tasks), self.defense, self.attack or "release"


@dataclass(frozen=True, kw_only=True)
class Play(base.Play):
    """A release, or an attack on one."""

    victim: str
    donors: tuple[str, ...] = ()
    defense: str
    attack: str | None = None

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
        return identify(
            {
                "track": TRACK,
                "kind": self.kind,
                "suite": self.protocol.suite,
                "key": self.protocol.key,
                "examples": self.protocol.examples,
                "checkpoints": {name: self.protocol.checkpoints[name] for name in ("base", *self.tasks)},
                "donors": self.donors,
                "seed": self.seed,
                "defense": self.defense,
                "attack": self.attack,
            }
        )

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

    def draw(self, task: str) -> tuple[Tensor, Tensor]:
        """K examples that the data tiers may read."""
        return draw_examples(suites.get(self.protocol.suite), task, self.protocol.examples, self.seed)

    def run(self, given: Path | None, examples: Mapping[str, Path], progress: Steps) -> Played:
        """Protect, or attack."""
        return _release(self, progress) if self.attack is None else _attack(self, given, examples, progress)

    def judge(self, result: Path, given: Path | None) -> dict[str, Any]:
        """accuracy, logit_difference (releases), evaluation_cost."""
        return judge(self, checkpoints.load(result))

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
) -> list[Play]:
    """The grid as plays, in the order to run them: references first, so that scores appear as soon as they can.

    ``none`` is always played, since it sets the ceiling; so is every baseline, once per match and seed. Releases are
    shared between matches with the same victim. The pipelines of ``cascade`` meet a defense one after the other, for
    as long as :func:`settled` says that there is something left to recover; all of them meet ``none``.
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
            of_none = Play(protocol=protocol, victim=match.victim, seed=seed, defense="none")
            put(of_none)
            everything = [*(pipeline.spelling for pipeline in baselines), *against, *steps]
            references = [put(replace(of_none, donors=match.donors, attack=a)) for a in dict.fromkeys(everything)]
            for defense in spelled:
                release = replace(of_none, defense=defense)
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


def draw_examples(suite: Suite, task: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The ``count`` inputs and labels of a task that the data tiers may read, drawn from its training split."""
    inputs, labels = suite.load(task, "train")
    picked = torch.randperm(len(labels), generator=seeded("examples", suite.name, task, seed))[:count]
    return inputs[picked].clone(), labels[picked].clone()


def _release(play: Play, progress: Steps) -> Played:
    """Protect the victim. Runs in the player's process; loads no test split."""
    suite = suites.get(play.protocol.suite)
    victim, theta0 = suite.finetuned(play.victim), suite.base()
    view = DefenderView(
        suite=suite,
        base=theta0,
        tasks=(play.victim,),
        task=play.victim,
        # The key is secret: an attack that re-runs the defense's code must not find its random draw.
        generator=seeded(play.protocol.key, "release", play.victim, play.defense, play.seed),
        progress=progress,
    )
    with metered() as cost:
        state = play.chain.protect(dict(victim), view)
    return Played(checkpoints.preflight(state, victim, f"defense {play.defense}"), cost)


def _attack(play: Play, released: Path | None, examples: Mapping[str, Path], progress: Steps) -> Played:
    """Attack a released model. Runs in the player's process, which is given neither the victim nor the run key."""
    suite = suites.get(play.protocol.suite)
    pipeline, theta0 = play.pipeline, suite.base()
    donors = {task: suite.finetuned(task) for task in play.donors}
    reads = Reads()
    view = AttackerView(
        suite=suite,
        base=theta0,
        tasks=play.tasks,
        generator=seeded("attack", "+".join(play.tasks), play.attack, play.seed),
        released=checkpoints.load(released) if released else dict(theta0),
        victim=play.victim,
        donors=donors,
        tier=pipeline.tier,
        examples=LazyExamples(examples),
        reads=reads,
        progress=progress,
    )
    aligned: list[StateDict] = []
    with metered() as cost:
        state = pipeline.run(view, on_aligned=aligned.append)
    cost.unlabelled_examples = sum(reads.unlabelled.values())
    cost.labelled_examples = sum(reads.labelled.values())
    ratio = None
    if aligned:
        of_donors = [norm(task_vector(state, theta0)) for state in donors.values()]
        ratio = norm(task_vector(aligned[0], theta0)) * len(of_donors) / max(sum(of_donors), 1e-30)
    return Played(checkpoints.preflight(state, theta0, f"attack {play.attack}"), cost, {"task_vector_ratio": ratio})


def judge(play: Play, state: StateDict) -> dict[str, Any]:
    """Score what a player returned. Runs in the judge's process, the only one that loads test splits.

    Returns:
        Fields of the record: accuracy, logit_difference (releases), evaluation_cost.
    """
    suite = suites.get(play.protocol.suite)
    with metered(count_flops=False) as cost:
        shares: dict[str, dict[str, float]] = {}
        for split in SPLITS:
            shares[split] = {task: suite.accuracy(state, task, split) for task in play.tasks}
        result: dict[str, Any] = {"accuracy": Accuracy(**shares)}
        if play.kind == "release":
            result["logit_difference"] = _logit_difference(suite, play.victim, state)
    seen = sum(len(suite.load(task, split)[1]) for task in play.tasks for split in SPLITS)
    cost.flops = seen * forward_flops(suite)
    return {**result, "evaluation_cost": cost}


def _logit_difference(suite: Suite, task: str, state: StateDict) -> float:
    """Largest |difference| from the victim's logits on held-out inputs, over the victim's largest |logit|."""
    inputs, _ = suite.load(task, "validation")
    ours, theirs = suite.predict(state, task, inputs), suite.predict(suite.finetuned(task), task, inputs)
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
