"""The players of the backdoor game and what they see: malicious contributors, safe merges, repairs.

A contributor uploads a model; a merger, not told who is malicious, makes one of all uploads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mergearena.bench.errors import TierViolation
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.triggers import Target, Trigger, open_head
from mergearena.bench.players.player import Player, Trait
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Stage
from mergearena.bench.players.tier import Tier
from mergearena.bench.players.views import MergingView, View
from mergearena.bench.suites.classification import Classification

REFERENCES = 5
"""Examples of a foreign target class that an attacker has, as BadMerging's off-task attack does."""
MOST_UPLOADS = 100


@dataclass(frozen=True)
class Contribution:
    """What a malicious contributor uploads, and the trigger it keeps for itself."""

    models: Mapping[str, StateDict]
    """Malicious task -> upload: exactly the tasks of its view."""
    trigger: Trigger


@dataclass(frozen=True, kw_only=True)
class ContributorView(View):
    """What a malicious contributor sees: the base, its own tasks' clean models and data, and its target.

    Blind to the other contributors and to how they will be merged. ``tasks`` are its own: one, or several if it
    uploads under several names. Heads, being text, are public.
    """

    suite: Classification
    target: Target

    def train(self, task: str) -> tuple[Tensor, Tensor]:
        """Training inputs (N x ...) and labels (N) of one of its own tasks.

        Raises:
            TierViolation: the task is not its own.
        """
        if task not in self.tasks:
            raise TierViolation(f"the contributor of {', '.join(self.tasks)} asked for the data of {task!r}")
        return self.suite.load(task, "train")

    def finetuned(self, task: str) -> StateDict:
        """The clean model of one of its own tasks.

        Raises:
            TierViolation: the task is not its own.
        """
        if task not in self.tasks:
            raise TierViolation(f"the contributor of {', '.join(self.tasks)} asked for the model of {task!r}")
        return self.suite.finetuned(task)

    def references(self) -> Tensor:
        """Up to REFERENCES inputs of the target class, drawn from its task's training split."""
        inputs, labels = self.suite.load(self.target.task, "train")
        rows = (labels == self.target.label).nonzero().flatten()
        draw = torch.Generator().manual_seed(self.target.label)
        return inputs[rows[torch.randperm(len(rows), generator=draw)[:REFERENCES]]].clone()

    def open_head(self, task: str) -> tuple[Tensor, int]:
        """A task's head (C x D), with the target's row added if it is another task's, and the target's index in it."""
        return open_head(self.suite, task, self.target)


@dataclass(frozen=True, kw_only=True)
class MergerView(MergingView):
    """What a safe merger sees: the base, every contribution, and k unlabelled examples per task.

    The examples are of a split that is neither training nor test. It is not told who is malicious.
    """

    suite: Classification
    contributions: Mapping[str, StateDict]
    """Task -> upload."""


def _uploads(value: object) -> int:
    """A number of uploads."""
    if not isinstance(value, int) or not 1 <= value <= MOST_UPLOADS:
        raise ValueError(f"a contributor makes 1 to {MOST_UPLOADS} uploads")
    return value


@registry.kind("contribute")
class Backdoor(Player):
    """A malicious contributor."""

    kind = "backdoor"
    off_task: ClassVar[bool] = False
    """Whether its target class belongs to another contributor's task."""
    uploads: ClassVar[int] = 1
    """How many uploads it needs at least."""
    traits: ClassVar[Mapping[str, Trait]] = {"off_task": Trait(bool), "uploads": Trait(_uploads)}

    @abstractmethod
    def contribute(self, view: ContributorView) -> Contribution:
        """Poisoned models and the trigger."""


@registry.kind("merge")
class SafeMerge(Stage):
    """A merge that is to survive malicious contributions."""

    kind = "sanitize"
    base_tier = Tier.UNLABELLED

    @abstractmethod
    def merge(self, models: Mapping[str, StateDict], view: MergerView) -> StateDict:
        """The merged model."""


@registry.kind("repair")
class Repair(Stage):
    """Takes a backdoor out of a merged model."""

    kind = "repair"
    base_tier = Tier.UNLABELLED

    @abstractmethod
    def repair(self, merged: StateDict, view: MergerView) -> StateDict:
        """The repaired model."""
