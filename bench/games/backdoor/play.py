"""The plays of the backdoor game, and the order to run them in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games import base
from mergearena.bench.games.backdoor import roles
from mergearena.bench.games.backdoor.pipeline import Merger, parse_backdoor, parse_merger
from mergearena.bench.games.backdoor.players import Backdoor
from mergearena.bench.games.backdoor.record import TRACK, Record
from mergearena.bench.games.backdoor.triggers import Target
from mergearena.bench.games.backdoor.uploads import contributions, joined, read
from mergearena.bench.games.base import Files, Played, Steps
from mergearena.bench.games.randomness import seeded
from mergearena.bench.players.player import Player
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import record
from mergearena.bench.suites import Suite
from mergearena.bench.suites.confined import Confined


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
        inputs, labels = roles.halves(suites.get(self.protocol.suite), task, self.seed)[0]
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
        suite, uploads = suites.get(self.protocol.suite), read(given)[0]
        models = {task: uploads[task] if task in uploads else suite.finetuned(task) for task in self.contributors}
        return joined(models)

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
        return Confined(suites.get(self.protocol.suite), contributions(files.given), files.training)

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Poison, or merge."""
        return (roles.contribute if self.defense is None else roles.merge)(self, suite, files, progress)

    def judge(self, result: Path, given: Path | None) -> dict[str, Any]:
        """Score and, under attack, asr, robust and the references; evaluation_cost."""
        return roles.judge(self, checkpoints.load(result, dtype=None), read(given) if given else None)

    def settled(self, known: Iterable[record.Record]) -> bool:
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
