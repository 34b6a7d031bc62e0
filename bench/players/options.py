"""Options of players: what their fields say, as one table for whoever shows, declares or searches them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import PositiveInt

from mergearena.bench.players.player import Player, spelled


@dataclass(frozen=True)
class Searched:
    """Metadata of a field: the range, both ends included, within which a study searches its numbers.

    For fields of which neither constraints nor default say it. The constraints hold all the same.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Unsearched:
    """Metadata of a field that a study leaves at its default, or at what its words allow."""


BatchSize = Annotated[PositiveInt, Unsearched()]
"""A batch size: a matter of memory and time, of which results depend little."""


@dataclass(frozen=True)
class Option:
    """One option of a player."""

    name: str
    type: str
    """As its values are spelled in a pipeline: ``float | chosen | null``."""
    required: bool
    value: Any
    """The default; None if it is required."""
    meaning: str
    """As written; empty if it is not."""
    metadata: tuple[object, ...]
    """The field's, such as :class:`Searched`."""

    @property
    def default(self) -> str:
        """The default as pipelines spell it, or ``required``."""
        return "required" if self.required else spelled(self.value)


def options_of(player: type[Player]) -> Mapping[str, Option]:
    """Name -> option of a player, in the order of its config."""
    return {
        name: Option(
            name=name,
            type=type_of(field.annotation),
            required=field.is_required(),
            value=None if field.is_required() else field.get_default(call_default_factory=True, validated_data={}),
            meaning=field.description or "",
            metadata=tuple(field.metadata),
        )
        for name, field in player.Config.model_fields.items()
    }


def type_of(annotation: Any) -> str:
    """An annotation as its values are spelled in a pipeline."""
    if annotation in (None, type(None)):
        return "null"
    if get_origin(annotation) is Annotated:
        return type_of(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " | ".join(map(spelled, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(type_of, get_args(annotation)))
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)
