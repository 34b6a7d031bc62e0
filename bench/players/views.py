"""What a player may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from mergearena.bench.errors import TierViolation
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.players.tier import Tier
from mergearena.bench.suites.base import Suite
from mergearena.bench.suites.classification import classification
from mergearena.bench.suites.ties import whole
from mergearena.bench.symmetry.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class View:
    """What both sides may see. ``generator`` is the player's only source of randomness."""

    suite: Suite
    base: StateDict
    tasks: tuple[str, ...]
    generator: torch.Generator
    progress: Callable[[int, int], None] = lambda done, total: None
    """Tell whoever watches how many of how many steps are done."""

    @cached_property
    def architecture(self) -> Architecture:
        """Where the model's symmetries are."""
        return self.suite.architecture

    def model(self, state: StateDict) -> nn.Module:
        """A module with these weights, in evaluation mode, to be run or trained; tied weights need one name."""
        module = self.suite.encoder()
        module.load_state_dict(whole(state, self.suite.ties))
        return module

    def outputs(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """What a task reads off a module, B x ...: in classification, its logits under the task's frozen head."""
        return self.suite.outputs(model, task, inputs)

    def loss(self, model: nn.Module, task: str, inputs: Tensor, targets: Tensor) -> Tensor:
        """The scalar that the suite's training minimises: in classification, the mean cross-entropy."""
        return self.suite.loss(model, task, inputs, targets)

    def logits(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """Class logits B x C, for who needs classes; all others take :meth:`outputs`.

        Raises:
            ArenaError: the suite's tasks have no classes.
        """
        return classification(self.suite).outputs(model, task, inputs)


@dataclass(kw_only=True)
class Reads:
    """Distinct examples a player has read, by kind."""

    unlabelled: dict[str, int] = field(default_factory=dict)
    labelled: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MergingView(View):
    """What whoever merges sees: beyond the models, the examples of its tier."""

    tier: Tier
    examples: Mapping[str, tuple[Tensor, Tensor]]
    """Task -> k inputs and labels. Read them through :meth:`unlabelled` and :meth:`labelled`, which count."""
    reads: Reads = field(default_factory=Reads)

    def unlabelled(self, task: str) -> Tensor:
        """Up to k inputs (k x ...) of a task.

        Raises:
            TierViolation: the player declared itself data-free.
        """
        self._require(Tier.UNLABELLED, task)
        inputs, _ = self.examples[task]
        self.reads.unlabelled[task] = max(len(inputs), self.reads.unlabelled.get(task, 0))
        return inputs

    def labelled(self, task: str) -> tuple[Tensor, Tensor]:
        """Up to k inputs and labels, or other targets, (k x ... each) of a task.

        Raises:
            TierViolation: the player declared a tier without labels.
        """
        self._require(Tier.LABELLED, task)
        inputs, labels = self.examples[task]
        self.reads.labelled[task] = max(len(inputs), self.reads.labelled.get(task, 0))
        return inputs, labels

    def _require(self, needed: Tier, task: str) -> None:
        if not self.tier.allows(needed):
            raise TierViolation(
                f"a {self.tier} player asked for {needed} examples of {task!r}; declare the tier {needed!s}"
            )
