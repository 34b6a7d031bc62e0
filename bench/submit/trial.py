"""Plays of one submitted player on the toys: the real games, with its inputs read-only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from mergearena.bench import suites
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games import backdoor, base, protection
from mergearena.bench.games.base import Files, Offer, Played, Steps
from mergearena.bench.players.registry import registry
from mergearena.bench.submit.read_only import inputs_read_only
from mergearena.bench.suites import Suite
from mergearena.bench.suites.confined import confine


@dataclass(frozen=True, kw_only=True)
class _Trial(base.Play):
    """A play of a submitted player, whose inputs are read-only."""

    submitted: str
    exchanged: str = ""
    """The task, if any, for which the player is handed another random model than the toy's."""

    @property
    def offer(self) -> Offer:
        """Makes the toy with the models of the player's side."""
        return partial(_toy, self.protocol.suite, self.models, self.exchanged)

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Play, with the submitted player's inputs read-only."""
        with inputs_read_only(registry.find(self.submitted)):
            return super().run(suite, files, progress)  # type: ignore[safe-super]  # a game follows in the order


@dataclass(frozen=True, kw_only=True)
class ProtectionTrial(_Trial, protection.Play):
    """A release or an attack."""


@dataclass(frozen=True, kw_only=True)
class BackdoorTrial(_Trial, backdoor.Play):
    """A contribution or a merge."""


def _toy(name: str, models: Sequence[str], exchanged: str, files: Files) -> Suite:
    toy = suites.get(name)
    return confine(toy, {task: model_of(toy, task, exchanged) for task in models}, files.training)


def model_of(toy: Suite, task: str, exchanged: str) -> StateDict:
    """A task's model, or another one if it is the exchanged task's."""
    return toy.finetuned(f"another {task}" if task == exchanged else task)
