"""The plays of the backdoor game, and the order to run them in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from bench import checkpoints, records, suites
from bench.checkpoints import StateDict
from bench.errors import ArenaError
from bench.game import Player, Tier
from bench.games import base
from bench.games.backdoor import rules
from bench.games.backdoor.record import TRACK, Match, Record
from bench.games.base import Files, Played, Steps, seeded
from bench.pipeline import Merger, parse_backdoor, parse_merger
from bench.safe_merging import Backdoor
from bench.suites import Suite
from bench.suites.confined import Confined
from bench.triggers import Target


@dataclass(frozen=True, kw_only=True)
class Play(base.Play):
    """A contribution, or a merge of contributions."""

    contributors: tuple[str, ...]
    malicious: int = 0
    attack: str | None = None
    defense: str | None = None

    @property
    def kind(self) -> Literal["contribution", "merge"]:
        """``contribution`` or ``merge``."""
        return "contribution" if self.defense is None else "merge"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The contributors' tasks."""
        return self.contributors

    @property
    def title(self) -> str:
        """Attack and merger."""
        return f"{self.attack or 'clean'} × {self.defense or 'upload'} on {'+'.join(self.contributors)}"

    @property
    def backdoor(self) -> Backdoor:
        """The parsed attack."""
        assert self.attack is not None
        return parse_backdoor(self.attack)

    @property
    def merger(self) -> Merger:
        """The parsed merger."""
        assert self.defense is not None
        return parse_merger(self.defense)

    @property
    def players(self) -> list[Player]:
        """The attack, and the merger's stages."""
        attack: list[Player] = [self.backdoor] if self.attack else []
        return [*attack, *(self.merger.stages if self.defense else ())]

    @cached_property
    def target(self) -> Target | None:
        """A class of the first malicious task, or of the first clean one if the attack is off-task; None if clean."""
        if self.attack is None:
            return None
        task = self.contributors[self.malicious if self.backdoor.off_task else 0]
        classes = len(suites.get(self.protocol.suite).tasks[task].classes)
        drawn = torch.randint(classes, (), generator=seeded("target", task, self.seed))
        return Target(task, int(drawn))

    @cached_property
    def id(self) -> str:
        """SHA-256 of everything that decides the outcome, players' code aside."""
        return self.identified(
            track=TRACK,
            contributors=self.contributors,
            malicious=self.malicious,
            attack=self.attack,
            defense=self.defense,
        )

    @cached_property
    def needs(self) -> Play | None:
        """The contribution that a merger meets."""
        return None if self.attack is None or self.defense is None else replace(self, defense=None)

    @property
    def needed(self) -> bool:
        """Whether it is a contribution."""
        return self.defense is None

    @property
    def reads(self) -> tuple[str, ...]:
        """Every task, for a merger that reads examples."""
        return self.contributors if self.defense is not None and self.merger.tier is not Tier.DATA_FREE else ()

    @property
    def labelled(self) -> bool:
        """Never: mergers have no labels."""
        return False

    def draw(self, task: str) -> tuple[Tensor, Tensor]:
        """K examples of the merger's half of the validation split, without their labels."""
        inputs, labels = rules.halves(suites.get(self.protocol.suite), task, self.seed)[0]
        return inputs[: self.protocol.examples].clone(), torch.full_like(labels[: self.protocol.examples], -1)

    @property
    def models(self) -> tuple[str, ...]:
        """The malicious contributors' own; every contributor's, for a merger."""
        return self.contributors if self.defense is not None else self.contributors[: self.malicious]

    @property
    def trains(self) -> tuple[str, ...]:
        """For a malicious contributor: its own tasks, and the target's, of which it has a few examples."""
        if self.defense is not None or self.target is None:
            return ()
        return tuple(dict.fromkeys((*self.models, self.target.task)))

    @property
    def offers_part(self) -> bool:
        """True: a contribution's result holds its trigger."""
        return True

    def offered(self, given: Path) -> StateDict:
        """Every contribution, without the trigger and without a hint whose is clean."""
        suite, uploads = suites.get(self.protocol.suite), rules.read(given)[0]
        models = {task: uploads[task] if task in uploads else suite.finetuned(task) for task in self.contributors}
        return rules.joined(models)

    def shown(self) -> Self:
        """A merger is shown neither the run key, from which the attack's draw follows, nor who is malicious."""
        if self.defense is None:
            return self
        order = seeded(self.protocol.key, "order", *self.contributors, self.seed)
        shuffled = tuple(self.contributors[i] for i in torch.randperm(len(self.contributors), generator=order).tolist())
        protocol = replace(self.protocol, key="")
        return replace(self, protocol=protocol, contributors=shuffled, attack=None, malicious=0)

    def suite(self, files: Files) -> Suite:
        """The suite as its player may see it; a merger's fine-tuned models are the contributions."""
        if files.given is None:
            return super().suite(files)
        return Confined(suites.get(self.protocol.suite), rules.contributions(files.given), files.training)

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Poison, or merge."""
        return (rules.contribute if self.defense is None else rules.merge)(self, suite, files, progress)

    def judge(self, result: Path, given: Path | None) -> dict[str, Any]:
        """Accuracy and, under attack, asr, robust and the references; evaluation_cost."""
        return rules.judge(self, checkpoints.load(result, dtype=None), rules.read(given) if given else None)

    def settled(self, known: Iterable[records.Record]) -> bool:
        """Every play counts."""
        return False

    def record(self, **common: Any) -> Record:
        """Its record."""
        return Record(
            kind=self.kind,
            contributors=self.contributors,
            malicious=self.malicious,
            attack=self.attack,
            defense=self.defense,
            target_task=self.target.task if self.target else None,
            target=self.target.label if self.target else None,
            tier=self.merger.tier if self.defense else None,
            **common,
        )


def plan(
    protocol: base.Protocol,
    matches: Iterable[Match],
    seeds: Sequence[int],
    attacks: Sequence[Backdoor],
    mergers: Sequence[Merger],
) -> list[Play]:
    """Every merger against clean contributors and against every attack, contributions first.

    An attack that needs more uploads than a match has malicious contributors takes the next ones, too.

    Raises:
        ArenaError: a match leaves no contributor clean.
    """
    plays: list[Play] = []
    spelled = dict.fromkeys(merger.spelling for merger in mergers)
    for match in matches:
        for seed in seeds:
            plays += [Play(protocol=protocol, seed=seed, contributors=match.tasks, defense=m) for m in spelled]
            for attack in {a.spelling: a for a in attacks}.values():
                malicious = max(match.malicious, attack.uploads)
                if malicious >= len(match.tasks):
                    raise ArenaError(
                        f"match {match.spelling}: {attack.spelling} makes {malicious} uploads, which leaves no clean "
                        "contributor; name more tasks"
                    )
                upload = Play(
                    protocol=protocol,
                    seed=seed,
                    contributors=match.tasks,
                    malicious=malicious,
                    attack=attack.spelling,
                )
                plays.append(upload)
                plays += [replace(upload, defense=merger) for merger in spelled]
    return sorted(plays, key=lambda play: play.kind == "merge")
