"""Stages: the parts of attacks and mergers, and the merge that both sides have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.players.player import Player, Trait
from mergearena.bench.players.registry import registry
from mergearena.bench.players.tier import Tier
from mergearena.bench.players.views import MergingView
from mergearena.bench.suites.ties import single, whole


class CostClass(StrEnum):
    """What a stage's work is made of, from cheap to dear."""

    ELEMENTWISE = "elementwise"
    """A few passes over the weights."""
    ALGEBRA = "algebra"
    """Matrix products, assignments, decompositions of the weights."""
    FORWARD = "forward"
    """The model run on examples."""
    TRAINING = "training"
    """Gradient steps."""


class Stage(Player):
    """Part of an attack or of a merger. ``tier`` is the least tier it can play in, as configured."""

    base_tier: ClassVar[Tier] = Tier.DATA_FREE
    cost_class: ClassVar[CostClass] = CostClass.ELEMENTWISE
    extraction: ClassVar[bool] = False
    """Whether an attack learns from the released model's answers alone: no function-preserving defense prevents it."""

    traits: ClassVar[Mapping[str, Trait]] = {
        "tier": Trait(Tier, "base_tier"),
        "cost": Trait(CostClass, "cost_class"),
        "extraction": Trait(bool),
    }

    def trait(self, name: str, trait: Trait) -> Any:
        """The value of a trait, as this stage is configured."""
        return self.tier if name == "tier" else super().trait(name, trait)

    @property
    def tier(self) -> Tier:
        """The tier that this stage needs with its config."""
        return self.base_tier


@registry.kind("merge")
class Merge(Stage):
    """Makes one model of several."""

    kind = "merge"

    @abstractmethod
    def merge(self, models: Mapping[str, StateDict], view: MergingView) -> StateDict:
        """The merged model. ``models``: task -> model; against a protected victim, aligned, and the victim first."""


V = TypeVar("V", bound=MergingView)


def merged(
    merge: Callable[[Mapping[str, StateDict], V], StateDict], models: Mapping[str, StateDict], view: V
) -> StateDict:
    """What a merge makes of models; to the merge, tied weights are one tensor under their first name."""
    ties = view.suite.ties
    if not ties:
        return merge(models, view)
    apart = {task: single(model, ties) for task, model in models.items()}
    return whole(merge(apart, replace(view, base=single(view.base, ties))), ties)
