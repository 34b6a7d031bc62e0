"""What a stage's options may be set to, read from its config: types, bounds and defaults by its
JSON Schema, and the ranges that its fields name themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from mergearena.bench.errors import BadConfig
from mergearena.bench.players import options as player_options
from mergearena.bench.players.options import Searched, Unsearched
from mergearena.bench.players.stages import Stage
from mergearena.bench.players.tier import Tier

FACTOR = 10.0
"""How far from its default an option is searched that has no bounds and does not say its range; if that is 0 or null,
not at all.
"""
INSIDE = 0.01
"""Share of a range by which an excluded end is kept away from."""
DIGITS = 3
"""Significant digits of a number: spellings stay short, and what is spelled is what was played."""
LOGARITHMIC = 50.0
"""Ratio of a range's ends from which it is searched on a logarithmic scale."""

PUBLISHED, SEARCHED, NUMBER = "published", "searched", "a number"


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included."""

    low: float
    high: float
    integer: bool

    def holds(self, value: float) -> bool:
        """Whether a number is of the range."""
        return self.low <= value <= self.high

    @property
    def log(self) -> bool:
        """Whether to search the exponent."""
        return self.low > 0 and self.high / self.low >= LOGARITHMIC

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> float | int:
        """A number of the range."""
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.{DIGITS}g}")


@dataclass(frozen=True)
class Option:
    """The values of one option: some words, or a number."""

    choices: tuple[Any, ...]
    range: Range | None

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Any:
        """One of the values."""
        if not self.choices and self.range:
            return self.range.suggest(trial, name)
        chosen = trial.suggest_categorical(name, [*self.choices, NUMBER] if self.range else self.choices)
        return self.range.suggest(trial, f"{name}.{NUMBER}") if self.range and chosen == NUMBER else chosen

    @property
    def first(self) -> Any:
        """One value, whichever."""
        return self.choices[0] if self.choices else self.range and self.range.low

    def encode(self, name: str, value: Any) -> dict[str, Any]:
        """The parameters with which :meth:`suggest` gives ``value``."""
        if not self.choices:
            return {name: value}
        return {name: value} if value in self.choices else {name: NUMBER, f"{name}.{NUMBER}": value}


@dataclass(frozen=True)
class Options:
    """What can be chosen of one kind of stage in one tier: whether its options are the published ones, and if not,
    what they are.
    """

    stage: type[Stage]
    published: bool
    """Whether it can be played with its defaults."""
    searched: Mapping[str, Option]

    def suggest(self, trial: optuna.trial.BaseTrial) -> Stage:
        """The stage with options.

        Raises:
            BadConfig: they do not go together.
        """
        ways = [PUBLISHED] * self.published + [SEARCHED] * bool(self.searched)
        if trial.suggest_categorical(f"{self.stage.name} options", ways) == PUBLISHED:
            return self.stage()
        chosen = {name: option.suggest(trial, self._named(name)) for name, option in self.searched.items()}
        return self.stage(**chosen)

    def encode(self, stage: Stage) -> dict[str, Any]:
        """The parameters with which :meth:`suggest` gives this stage."""
        way = f"{self.stage.name} options"
        if self.published and stage.config == self.stage().config:
            return {way: PUBLISHED}
        named = {name: getattr(stage.config, name) for name in self.searched}
        parts = [option.encode(self._named(name), named[name]) for name, option in self.searched.items()]
        return {way: SEARCHED} | {key: value for part in parts for key, value in part.items()}

    def _named(self, option: str) -> str:
        return f"{self.stage.name}.{option}"


def options_of(stage: type[Stage], tier: Tier) -> Options | None:
    """What can be chosen of a stage in a tier; None if it cannot be played there."""
    default = _tier(stage, {})
    published = default is not None and tier.allows(default)
    searched: dict[str, Option] = {}
    fields = player_options.options_of(stage)
    for name, schema in stage.Config.model_json_schema().get("properties", {}).items():
        option = _option(schema, fields[name].metadata)
        choices = option.choices
        if published and not choices and option.range and not option.range.holds(schema.get("default", math.nan)):
            choices = (schema["default"],)
        # A choice may need a higher tier than the rest, such as coefficients chosen on labels.
        least = default if default and not published else tier
        choices = tuple(
            choice for choice in choices if (needed := _tier(stage, {name: choice})) and least.allows(needed)
        )
        if option.range or len(choices) > 1:
            searched[name] = Option(choices, option.range)
    first = {name: option.first for name, option in searched.items()}
    if published or ((needed := _tier(stage, first)) and tier.allows(needed)):
        return Options(stage, published, searched)
    return None


def _tier(stage: type[Stage], options: Mapping[str, Any]) -> Tier | None:
    """The tier that a stage with these options needs; None if there can be no such stage."""
    try:
        return stage(**options).tier
    except BadConfig:
        return None


def _option(schema: Mapping[str, Any], metadata: Sequence[object]) -> Option:
    """An option's values, of its JSON Schema and its field's metadata."""
    choices: list[Any] = []
    found = None
    for part in schema.get("anyOf", [schema]):
        if "enum" in part or "const" in part:
            choices += part.get("enum", [part.get("const")])
        elif part.get("type") == "boolean":
            choices += [False, True]
        elif part.get("type") == "null":
            choices.append(None)
        elif part.get("type") in ("number", "integer"):
            found = _range(part, schema.get("default"), metadata)
    return Option(tuple(choices), found)


def _range(schema: Mapping[str, Any], default: Any, metadata: Sequence[object]) -> Range | None:
    integer = schema["type"] == "integer"
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    ends = max(low, above), min(high, below)
    if any(isinstance(said, Unsearched) for said in metadata):
        return None
    given = next(((said.low, said.high) for said in metadata if isinstance(said, Searched)), None)
    if given is None and math.inf in (-ends[0], ends[1]):
        if not default:
            return None
        given = min(default / FACTOR, default * FACTOR), max(default / FACTOR, default * FACTOR)
    if given is not None:
        ends = max(ends[0], given[0]), min(ends[1], given[1])
    inside = 1.0 if integer else INSIDE * (ends[1] - ends[0])
    first = ends[0] + inside * (ends[0] == above)
    last = ends[1] - inside * (ends[1] == below)
    if integer:
        first, last = math.ceil(first), math.floor(last)
    return Range(first, last, integer) if first < last else None
