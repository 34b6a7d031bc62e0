"""The rules as types: players, their configs, their tiers and what each may see.

A *player* is a defense or one stage of an attack. The easy path is an annotated function under a
decorator of :mod:`defenses` or :mod:`attacks`; a class is for what needs more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from bench.architecture import Architecture
from bench.checkpoints import StateDict
from bench.errors import BadConfig, TierViolation
from bench.suites.base import Suite

Kind = Literal["defense", "align", "merge", "recover", "attack", "backdoor", "sanitize", "repair"]


class Tier(StrEnum):
    """What an attacker may use beyond the weights; each tier includes the ones before it."""

    DATA_FREE = "data-free"
    UNLABELLED = "unlabelled"
    LABELLED = "labelled"

    @property
    def rank(self) -> int:
        """0, 1 or 2: higher may use more."""
        return list(Tier).index(self)

    def allows(self, other: Tier) -> bool:
        """Whether an attack of tier ``other`` may play in this tier."""
        return other.rank <= self.rank


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


class Config(BaseModel):
    """Base of every player's config: frozen, keyword-only, documented by its attribute docstrings."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, populate_by_name=True
    )


class MadeConfig(Config):
    """Base of configs that are made of a function's signature: no source has docstrings of theirs, and looking for
    them takes longer than everything else that registers a player.
    """

    model_config = ConfigDict(use_attribute_docstrings=False)


class DefenseConfig(Config):
    """Config of a defense."""


class AttackConfig(Config):
    """Config of an attack or of one of its stages."""


class Player(ABC):
    """A defense or a stage of an attack: a registered name, a frozen config, a docstring and a paper."""

    kind: ClassVar[Kind]
    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    """Where the method comes from, e.g. ``arXiv 2503.07661, eq. 3``; empty for our own."""
    source: ClassVar[str] = ""
    """SHA-256 of the file it is defined in, where that file is not imported here."""
    deterministic: ClassVar[bool] = False
    """Whether a defense draws nothing: whoever knows its code can repeat what it does."""
    Config: ClassVar[type[BaseModel]] = Config

    def __init__(self, config: BaseModel | None = None, /, **fields: Any) -> None:
        """Take a ready config, or its fields.

        Raises:
            BadConfig: a field is unknown or its value is not allowed.
        """
        if config is None:
            try:
                config = self.Config(**fields)
            except ValidationError as error:
                raise BadConfig(_explain(error, self)) from None
        self.config: Any = config

    @property
    def spelling(self) -> str:
        """How this player is written in pipelines, commands, records and boards; defaults are left out."""
        default = {name: f.get_default(call_default_factory=True) for name, f in self.Config.model_fields.items()}
        shown = [
            f"{name}={spelled(value)}"
            for name in self.Config.model_fields
            if (value := getattr(self.config, name)) != default[name]
        ]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


def spelled(value: Any) -> str:
    """A config value as pipelines spell it."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _explain(error: ValidationError, player: Player) -> str:
    """One line out of pydantic's report."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    fields = ", ".join(player.Config.model_fields) or "none"
    if first["type"] == "extra_forbidden":
        return f"{player.name}: unknown config key {key!r}; it takes: {fields}"
    return f"{player.name}: {key}={first['input']!r} is not allowed: {first['msg'].removeprefix('Value error, ')}"


class Defense(Player):
    """Rewrites a victim before release so that merging it fails."""

    kind = "defense"
    preserves_function: ClassVar[bool] = False
    """Whether it claims to leave every output unchanged; the runner checks the claim."""

    @abstractmethod
    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The released model: same keys, shapes and dtypes as ``victim``, which is left as it was."""

    @property
    def claims_function(self) -> bool:
        """Whether this defense, as configured, claims to preserve the function."""
        return self.preserves_function


class Stage(Player):
    """Part of an attack or of a merger. ``tier`` is the least tier it can play in, as configured."""

    base_tier: ClassVar[Tier] = Tier.DATA_FREE
    cost_class: ClassVar[CostClass] = CostClass.ELEMENTWISE
    extraction: ClassVar[bool] = False
    """Whether an attack learns from the released model's answers alone: no function-preserving defense prevents it."""

    @property
    def tier(self) -> Tier:
        """The tier that this stage needs with its config."""
        return self.base_tier


class Align(Stage):
    """Moves the released model back towards the base's gauge."""

    kind = "align"

    @abstractmethod
    def align(self, released: StateDict, view: AttackerView) -> StateDict:
        """A model that computes what ``released`` computes, in the gauge of ``view.base`` as far as it can."""


class Merge(Stage):
    """Makes one model of several."""

    kind = "merge"

    @abstractmethod
    def merge(self, models: Mapping[str, StateDict], view: MergingView) -> StateDict:
        """The merged model. ``models``: task -> model; against a protected victim, aligned, and the victim first."""


class Recover(Stage):
    """Makes a merged model better."""

    kind = "recover"

    @abstractmethod
    def recover(self, merged: StateDict, view: AttackerView) -> StateDict:
        """The improved model."""


class Attack(Stage):
    """A whole attack in one piece, for what does not fit align -> merge -> recover."""

    kind = "attack"
    uses_victim: ClassVar[bool] = True
    """False for baselines that never touch the released model: they measure the floor."""

    @abstractmethod
    def attack(self, view: AttackerView) -> StateDict:
        """The attacker's one model."""


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
        """A module with these weights, in evaluation mode, for :meth:`logits` or for training."""
        module = self.suite.encoder()
        module.load_state_dict(state)
        return module

    def logits(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """Class logits B x C of a module under the task's frozen head."""
        return self.suite.logits(model, task, inputs)


@dataclass(frozen=True, kw_only=True)
class DefenderView(View):
    """What a defense sees: the public base, its own task and its own training data."""

    task: str

    def train(self) -> tuple[Tensor, Tensor]:
        """The defender's training inputs (N x ...) and labels (N)."""
        return self.suite.load(self.task, "train")


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
        """Up to k inputs (k x ...) and labels (k) of a task.

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


@dataclass(frozen=True, kw_only=True)
class AttackerView(MergingView):
    """What an attack sees: the released model, the base, its donors and the examples of its tier."""

    released: StateDict
    victim: str
    donors: Mapping[str, StateDict]
