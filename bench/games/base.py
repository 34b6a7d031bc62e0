"""What every game is to the runner: plays, what a play returns, and what all plays of a run share."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.files.hashing import identify
from mergearena.bench.players.player import Player
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.protocol import Protocol
from mergearena.bench.records.record import Record
from mergearena.bench.suites import Split, Suite
from mergearena.bench.suites.confined import confine

Steps = Callable[[int, int], None]
"""Told how many of how many steps are done."""
SPLITS: tuple[Split, ...] = ("validation", "test")


class Facts(BaseModel):
    """Fields of the record that only the player's process knows; a game adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files that a player's process may read, beside the code and the public base."""

    given: Path | None = None
    """The result of the play that this one starts from."""
    examples: Mapping[str, Path] = field(default_factory=dict)
    """Task -> the examples of the player's tier."""
    training: Mapping[str, Path] = field(default_factory=dict)
    """Task -> its training split."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (*((self.given,) if self.given else ()), *self.examples.values(), *self.training.values())


@dataclass(frozen=True)
class Played:
    """What a player's process hands to the runner."""

    tensors: StateDict
    """A model, or whatever else the plays that need this one read back."""
    cost: Cost
    facts: Facts = field(default_factory=Facts)


class Work(ABC):
    """What is done in a player's process."""

    @abstractmethod
    def suite(self, files: Files) -> Suite:
        """The suite as the player may see it. Runs in the player's process, before any code of the player's."""

    @abstractmethod
    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Run the player, in its process: loads no test split."""


class Job(Work):
    """What a player's process does, as the runner knows it."""

    facts: ClassVar[type[Facts]] = Facts
    """What the process may tell beside the result and its cost."""

    @property
    @abstractmethod
    def id(self) -> str:
        """What tells it from other jobs."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What is done, for the terminal."""

    @abstractmethod
    def sent(self) -> Work:
        """The only form in which it goes to the player's process: without what that must not know."""


Offer = Callable[[Files], Suite]
"""Makes the suite as a player may see it."""


@dataclass(frozen=True)
class Packed(Work):
    """A play on its way to its player's process: there, its players are known only once their files are loaded, which
    is after the suite is made.
    """

    offer: Offer
    play: bytes

    def suite(self, files: Files) -> Suite:
        """The suite as the player may see it."""
        return self.offer(files)

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Unpack the play, and run it."""
        play: Play = pickle.loads(self.play)  # packed by :meth:`Play.sent`
        return play.run(suite, files, progress)


@dataclass(frozen=True, kw_only=True)
class Play(Job):
    """One unit of work: a player runs in a process of its own, then the judge scores what it returned.

    A game subclasses it; everything that tells one game from another is here or in its records.
    """

    track: ClassVar[str]
    """The game."""
    scoring: ClassVar[str]
    """The version of what its judge computes."""
    protocol: Protocol
    seed: int
    after: tuple[str, ...] | None = None
    """Set for a play that may turn out to be needless: the plays, by id, that must be done before that is known."""

    @property
    @abstractmethod
    def id(self) -> str:
        """SHA-256 of everything that decides the outcome, players' code aside."""

    def identified(self, **own: object) -> str:
        """SHA-256 of the game's own part and of what every play depends on."""
        shared = {
            "kind": self.kind,
            "suite": self.protocol.suite,
            "key": self.protocol.key,
            "examples": self.protocol.examples,
            "checkpoints": {name: self.protocol.checkpoints[name] for name in ("base", *self.tasks)},
            "seed": self.seed,
        }
        return identify({**shared, **own})

    @property
    @abstractmethod
    def kind(self) -> str:
        """What it does, in the game's words."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose models it touches or is judged on."""

    @property
    @abstractmethod
    def players(self) -> Sequence[Player]:
        """Whose code decides the outcome."""

    @property
    @abstractmethod
    def needs(self) -> Play | None:
        """The play whose result this one starts from, if any."""

    @property
    @abstractmethod
    def needed(self) -> bool:
        """Whether other plays may start from this one's result."""

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The tasks of which its player may read examples."""

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether these examples come with their labels."""

    @abstractmethod
    def draw(self, task: str) -> tuple[Tensor, Tensor]:
        """These examples: inputs k x ... and labels k, all -1 unless labelled. Runs in the runner's process."""

    @property
    @abstractmethod
    def models(self) -> tuple[str, ...]:
        """The tasks whose fine-tuned models its player is handed."""

    @property
    @abstractmethod
    def trains(self) -> tuple[str, ...]:
        """The tasks whose training splits its player may read."""

    @property
    def offers_part(self) -> bool:
        """Whether its player may see only :meth:`offered` of the result that it starts from."""
        return False

    def offered(self, given: Path) -> StateDict:
        """What its player may see of the result that it starts from. Runs in the runner's process."""
        return checkpoints.load(given, dtype=None)

    @property
    def offer(self) -> Offer:
        """Makes the suite with the models and the training data of the player's side; can be pickled."""
        return partial(confined, self.protocol.suite, self.models)

    @abstractmethod
    def shown(self) -> Self:
        """The same play without what the player's process must not know."""

    def sent(self) -> Packed:
        """What is shown, packed."""
        shown = self.shown()
        return Packed(shown.offer, pickle.dumps(shown))

    def suite(self, files: Files) -> Suite:
        """The suite with the models and the training data of the player's side."""
        return self.offer(files)

    @abstractmethod
    def judge(self, result: Path, given: Path | None) -> dict[str, Any]:
        """Score what the player returned, in the judge's process, the only one that loads test splits.

        Returns:
            Fields of the record, ``evaluation_cost`` among them.
        """

    @abstractmethod
    def settled(self, known: Iterable[Record]) -> bool:
        """Whether a play with ``after`` is not needed any more, given the records so far."""

    @abstractmethod
    def record(self, **common: Any) -> Record:
        """The record of this play, given the fields that the runner knows."""


def confined(name: str, models: Sequence[str], files: Files) -> Suite:
    """The suite of that name with the fine-tuned models of these tasks alone."""
    suite = suites.get(name)
    return confine(suite, {task: suite.finetuned(task) for task in models}, files.training)
