"""The protection game's players: defenses, and the stages of attacks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.players.player import Player, Trait
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Stage
from mergearena.bench.players.views import MergingView, View


@registry.kind("protect")
class Defense(Player):
    """Rewrites a victim before release so that merging it fails."""

    kind = "defense"
    preserves_function: ClassVar[bool] = False
    """Whether it claims to leave every output unchanged; the runner checks the claim."""
    traits: ClassVar[Mapping[str, Trait]] = {"preserves_function": Trait(bool)}

    @abstractmethod
    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The released model: same keys, shapes and dtypes as ``victim``, which is left as it was."""

    def trait(self, name: str, trait: Trait) -> Any:
        """The value of a trait, as this defense is configured."""
        return self.claims_function if name == "preserves_function" else super().trait(name, trait)

    @property
    def claims_function(self) -> bool:
        """Whether this defense, as configured, claims to preserve the function."""
        return self.preserves_function


@registry.kind("align")
class Align(Stage):
    """Moves the released model back towards the base's gauge."""

    kind = "align"

    @abstractmethod
    def align(self, released: StateDict, view: AttackerView) -> StateDict:
        """A model that computes what ``released`` computes, in the gauge of ``view.base`` as far as it can."""


@registry.kind("recover")
class Recover(Stage):
    """Makes a merged model better."""

    kind = "recover"

    @abstractmethod
    def recover(self, merged: StateDict, view: AttackerView) -> StateDict:
        """The improved model."""


@registry.kind("attack")
class Attack(Stage):
    """A whole attack in one piece, for what does not fit align -> merge -> recover."""

    kind = "attack"
    uses_victim: ClassVar[bool] = True
    """False for baselines that never touch the released model: they measure the floor."""
    traits: ClassVar[Mapping[str, Trait]] = {"uses_victim": Trait(bool)}

    @abstractmethod
    def attack(self, view: AttackerView) -> StateDict:
        """The attacker's one model."""


@dataclass(frozen=True, kw_only=True)
class DefenderView(View):
    """What a defense sees: the public base, its own task and its own training data."""

    task: str

    def train(self) -> tuple[Tensor, Tensor]:
        """The defender's training inputs (N x ...) and labels (N)."""
        return self.suite.load(self.task, "train")


@dataclass(frozen=True, kw_only=True)
class AttackerView(MergingView):
    """What an attack sees: the released model, the base, its donors and the examples of its tier."""

    released: StateDict
    victim: str
    donors: Mapping[str, StateDict]
