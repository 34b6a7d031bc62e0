"""Players and their configs.

A *player* is a defense or one stage of an attack. The easy path is an annotated function under a
decorator of :mod:`defenses` or :mod:`attacks`; a class is for what needs more.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mergearena.bench.errors import ArenaError, BadConfig


@dataclass(frozen=True)
class Trait:
    """What a decorator may say of a player: the type of its values, and the class attribute that holds it."""

    type: Callable[[Any], Any]
    attribute: str = ""
    """The trait's own name, if empty."""

    def read(self, player: str, name: str, value: Any) -> Any:
        """The value that the class gets.

        Raises:
            ArenaError: it is none of this trait's.
        """
        if self.type is bool and not isinstance(value, bool):
            raise ArenaError(f"{player!r}: {name} is true or false, not {value!r}")
        try:
            return self.type(value)
        except ValueError as error:
            raise ArenaError(f"{player!r}: {name}={value!r}: {error}") from None


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

    kind: ClassVar[str]
    """What it does: ``defense``, ``merge``, ...; a kind is registered with the class that its players extend."""
    traits: ClassVar[Mapping[str, Trait]] = {"paper": Trait(str), "deterministic": Trait(bool)}
    """What the decorator of its kind takes beside the name; a kind has those of its parents, too."""
    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    """Where the method comes from, e.g. ``arXiv 2503.07661, eq. 3``; empty for our own."""
    source: ClassVar[str] = ""
    """Identity of the file it is defined in, where that file is not imported here."""
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

    def trait(self, name: str, trait: Trait) -> Any:
        """The value of a trait, as this player is configured."""
        return getattr(self, trait.attribute or name)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same player with the same config."""
        return isinstance(other, Player) and type(self) is type(other) and self.spelling == other.spelling

    def __hash__(self) -> int:
        """Equal players have equal hashes."""
        return hash((type(self), self.spelling))

    @cached_property
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
