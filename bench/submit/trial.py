"""Plays of one submitted player on the toys: the real games, with its inputs read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mergearena.bench import suites
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games import backdoor, base, protection
from mergearena.bench.games.base import Files, Played, Steps
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stand_in import Declaration
from mergearena.bench.records.protocol import Protocol
from mergearena.bench.submit.read_only import inputs_read_only
from mergearena.bench.suites import Suite
from mergearena.bench.suites.confined import Confined

EXAMPLES = 16
_SPELLED = {
    "align": "{} > task-arithmetic",
    "merge": "identity > {}",
    "recover": "identity > task-arithmetic > {}",
    "attack": "{}",
    "sanitize": "{}",
    "repair": "task-arithmetic > {}",
}


@dataclass(frozen=True, kw_only=True)
class _Trial(base.Play):
    """A play of a submitted player, whose inputs are read-only."""

    submitted: str
    exchanged: str = ""
    """The task, if any, for which the player is handed another random model than the toy's."""

    def suite(self, files: Files) -> Suite:
        """The toy, with the models of the player's side."""
        toy = suites.get(self.protocol.suite)
        return Confined(toy, {task: model_of(toy, task, self.exchanged) for task in self.models}, files.training)

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


def model_of(toy: Suite, task: str, exchanged: str) -> StateDict:
    """A task's model, or another one if it is the exchanged task's."""
    return toy.finetuned(f"another {task}" if task == exchanged else task)


def trial(
    player: Declaration, suite: str, tasks: tuple[str, ...], key: str, seed: int, exchanged: str = ""
) -> ProtectionTrial | BackdoorTrial:
    """The play that puts a player through its paces; an attack meets an undefended victim, a merger clean uploads.

    A merge is given the models of all ``tasks``, other attacks two.
    """
    held: Protocol = protocol(suite, tasks, key, EXAMPLES)
    common: dict[str, Any] = {"protocol": held, "seed": seed, "submitted": player.name, "exchanged": exchanged}
    spelled = _SPELLED.get(player.kind, "{}").format(player.name)
    if player.kind == "defense":
        return ProtectionTrial(**common, victim=tasks[0], defense=spelled)
    if player.kind == "backdoor":
        return BackdoorTrial(**common, contributors=tasks, malicious=player.traits["uploads"], attack=spelled)
    if player.kind in ("sanitize", "repair"):
        return BackdoorTrial(**common, contributors=tasks, defense=spelled)
    donors = tasks[1:] if player.kind == "merge" else tasks[1:2]
    return ProtectionTrial(**common, victim=tasks[0], donors=donors, defense="none", attack=spelled)
