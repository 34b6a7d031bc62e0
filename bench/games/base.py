"""What every game is to the runner: plays, what a play returns, and what all plays of a run share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bench import checkpoints, suites
from bench.checkpoints import StateDict
from bench.cost import Cost, metered
from bench.game import Player
from bench.records import Record, identify
from bench.suites import Split, Suite
from bench.suites.confined import Confined

Steps = Callable[[int, int], None]
"""Told how many of how many steps are done."""
SPLITS: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is the same for every play of a run."""

    suite: str
    key: str
    examples: int
    checkpoints: Mapping[str, str]
    """Model -> SHA-256 of its weights."""


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


class Job(ABC):
    """What a player's process does."""

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
    def shown(self) -> Self:
        """The same job without what the player's process must not know: the only form that is sent there."""

    @abstractmethod
    def suite(self, files: Files) -> Suite:
        """The suite as the player may see it. Runs in the player's process, before any code of the player's."""

    @abstractmethod
    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Run the player, in its process: loads no test split."""


@dataclass(frozen=True, kw_only=True)
class Play(Job):
    """One unit of work: a player runs in a process of its own, then the judge scores what it returned.

    A game subclasses it; everything that tells one game from another is here or in its records.
    """

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

    def suite(self, files: Files) -> Suite:
        """The suite with the models and the training data of the player's side."""
        suite = suites.get(self.protocol.suite)
        return Confined(suite, {task: suite.finetuned(task) for task in self.models}, files.training)

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


class LazyExamples(Mapping[str, tuple[Tensor, Tensor]]):
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


def seeded(*parts: object) -> torch.Generator:
    """A generator whose seed is a hash of the parts."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


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


def protocol(suite_name: str, tasks: Iterable[str], key: str, examples: int) -> Protocol:
    """The protocol of a run, with the hashes of every checkpoint that it touches."""
    suite = suites.get(suite_name)
    hashes = {"base": checkpoints.fingerprint(suite.base())}
    hashes |= {task: checkpoints.fingerprint(suite.finetuned(task)) for task in tasks}
    return Protocol(suite=suite_name, key=key, examples=examples, checkpoints=hashes)
