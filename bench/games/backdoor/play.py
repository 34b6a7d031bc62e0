"""The plays of the backdoor game, and the order to run them in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games import base
from mergearena.bench.games.backdoor import roles
from mergearena.bench.games.backdoor.pipeline import Merger
from mergearena.bench.games.backdoor.players import Backdoor
from mergearena.bench.games.backdoor.record import TRACK, Record
from mergearena.bench.games.backdoor.triggers import Target
from mergearena.bench.games.backdoor.uploads import contributions, joined, read
from mergearena.bench.games.base import Files, Offer, Played, Steps, confined
from mergearena.bench.games.match import spell
from mergearena.bench.games.randomness import seeded
from mergearena.bench.players.player import Player
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import record
from mergearena.bench.suites import Suite
from mergearena.bench.suites.classification import classification
from mergearena.bench.suites.confined import confine


@dataclass(frozen=True, kw_only=True)
class Play(base.Play):
    """A contribution, or a merge of contributions."""

    track: ClassVar[str] = TRACK
    scoring: ClassVar[str] = roles.SCORING
    contributors: tuple[str, ...]
    malicious: int = 0
    attack: Backdoor | None = None
    defense: Merger | None = None

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
        attack = self.attack.spelling if self.attack else "clean"
        defense = self.defense.spelling if self.defense else "upload"
        return f"{attack} × {defense} on {spell(self.contributors)}"

    @property
    def players(self) -> list[Player]:
        """The attack, and the merger's stages."""
        attack: list[Player] = [self.attack] if self.attack else []
        return [*attack, *(self.defense.stages if self.defense else ())]

    @cached_property
    def target(self) -> Target | None:
        """A class of the first malicious task, or of the first clean one if the attack is off-task; None if clean."""
        if self.attack is None:
            return None
        task = self.contributors[self.malicious if self.attack.off_task else 0]
        classes = len(classification(suites.get(self.protocol.suite)).tasks[task].classes)
        drawn = torch.randint(classes, (), generator=seeded("target", task, self.seed))
        return Target(task, int(drawn))

    @cached_property
    def id(self) -> str:
        """SHA-256 of everything that decides the outcome, players' code aside."""
        return self.identified(
            track=TRACK,
            contributors=self.contributors,
            malicious=self.malicious,
            attack=self.attack.spelling if self.attack else None,
            defense=self.defense.spelling if self.defense else None,
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
        return self.contributors if self.defense is not None and self.defense.tier is not Tier.DATA_FREE else ()

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

    @property
    def offer(self) -> Offer:
        """Makes the suite as its player may see it; a merger's fine-tuned models are the contributions."""
        return partial(_uploaded if self.defense else confined, self.protocol.suite, self.models)

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
            attack=self.attack.spelling if self.attack else None,
            defense=self.defense.spelling if self.defense else None,
            target_task=self.target.task if self.target else None,
            target=self.target.label if self.target else None,
            tier=self.defense.tier if self.defense else None,
            **common,
        )


def _uploaded(suite: str, models: Sequence[str], files: Files) -> Suite:
    """The suite with the contributions in place of fine-tuned models, if some are malicious."""
    if files.given is None:
        return confined(suite, models, files)
    return confine(suites.get(suite), contributions(files.given), files.training)
