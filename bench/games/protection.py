"""The protection game: a defense rewrites a victim before release, an attack merges it all the same.

A match is (suite, victim, donors). Its plays are *releases* (a defense rewrites the victim; shared by every attack
on it) and *attacks* (a pipeline meets one released model, or plays as a baseline without it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import checkpoints, suites
from bench.checkpoints import StateDict
from bench.cost import Cost, metered
from bench.game import AttackerView, DefenderView, Reads, Tier
from bench.merging import norm, task_vector
from bench.pipeline import Chain, Pipeline, parse_attack, parse_defense
from bench.records import Accuracy, Record, identify
from bench.scoring import reference, worst_case
from bench.suites import Split, Suite

TRACK = "protection"
Steps = Callable[[int, int], None]
"""Told how many of how many steps are done."""
SPLITS: tuple[Split, ...] = ("validation", "test")
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


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is the same for every play of a run."""

    suite: str
    key: str
    examples: int
    checkpoints: Mapping[str, str]
    """Model -> SHA-256 of its weights."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """One unit of work: a player runs in a process of its own, then the judge scores what it returned."""

    protocol: Protocol
    victim: str
    donors: tuple[str, ...] = ()
    seed: int
    defense: str
    attack: str | None = None
    after: tuple[str, ...] | None = None
    """Set for a step of a cascade: the plays, by id, that must be done before it is known whether it is needed."""

    @property
    def kind(self) -> str:
        """``release`` or ``attack``."""
        return "release" if self.attack is None else "attack"

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

    @cached_property
    def release(self) -> Play | None:
        """The release this play needs: None for a release itself, and for baselines."""
        if self.attack is None or not self.pipeline.uses_victim:
            return None
        return Play(protocol=self.protocol, victim=self.victim, seed=self.seed, defense=self.defense)


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


def seeded(*parts: object) -> torch.Generator:
    """A generator whose seed is a hash of the parts."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_examples(suite: Suite, task: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The ``count`` inputs and labels of a task that the data tiers may read, drawn from its training split."""
    inputs, labels = suite.load(task, "train")
    picked = torch.randperm(len(labels), generator=seeded("examples", suite.name, task, seed))[:count]
    return inputs[picked].clone(), labels[picked].clone()


@dataclass(frozen=True)
class Played:
    """What a player's process hands to the runner."""

    state: StateDict
    cost: Cost
    task_vector_ratio: float | None = None


def play_release(play: Play, progress: Steps) -> Played:
    """Protect the victim. Runs in the player's process; loads no test split."""
    suite = suites.get(play.protocol.suite)
    victim, base = suite.finetuned(play.victim), suite.base()
    view = DefenderView(
        suite=suite,
        base=base,
        tasks=(play.victim,),
        task=play.victim,
        # The key is secret: an attack that re-runs the defense's code must not find its random draw.
        generator=seeded(play.protocol.key, "release", play.victim, play.defense, play.seed),
        progress=progress,
    )
    with metered() as cost:
        state = play.chain.protect(dict(victim), view)
    return Played(checkpoints.preflight(state, victim, f"defense {play.defense}"), cost)


def play_attack(play: Play, released: Path | None, examples: Mapping[str, Path], progress: Steps) -> Played:
    """Attack a released model. Runs in the player's process, which is given neither the victim nor the run key."""
    suite = suites.get(play.protocol.suite)
    pipeline, base = play.pipeline, suite.base()
    donors = {task: suite.finetuned(task) for task in play.donors}
    reads = Reads()
    view = AttackerView(
        suite=suite,
        base=base,
        tasks=play.tasks,
        generator=seeded("attack", "+".join(play.tasks), play.attack, play.seed),
        released=checkpoints.load(released) if released else dict(base),
        victim=play.victim,
        donors=donors,
        tier=pipeline.tier,
        examples=_LazyExamples(examples),
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
        of_donors = [norm(task_vector(state, base)) for state in donors.values()]
        ratio = norm(task_vector(aligned[0], base)) * len(of_donors) / max(sum(of_donors), 1e-30)
    return Played(checkpoints.preflight(state, base, f"attack {play.attack}"), cost, ratio)


class _LazyExamples(Mapping[str, tuple[Tensor, Tensor]]):
    """Task -> examples, read from disk when first asked for."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def __getitem__(self, task: str) -> tuple[Tensor, Tensor]:
        state = checkpoints.load(self._paths[task], dtype=None)
        return state["inputs"], state["labels"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


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


@cache
def forward_flops(suite: Suite) -> int:
    """Operations of one forward pass per example, measured on a batch."""
    task = next(iter(suite.tasks))
    inputs = suite.load(task, "validation")[0][: suite.batch_size]
    base, _ = suite.base(), suite.head(task)  # a head may be computed when first asked for: no part of a forward pass
    with metered() as cost:
        suite.predict(base, task, inputs)
    return round(cost.flops / len(inputs))


def fine_tuning_flops(suite: Suite) -> int:
    """Operations of fine-tuning one model from the base: forward and backward (3 forwards) per example seen."""
    return 3 * forward_flops(suite) * suite.fine_tuning_examples
