"""What a submitted file says of its players, so that they can be planned and judged where their code never runs.

The file is imported in an isolated process only. There its players are *declared*; everywhere else *stand-ins* of the
same name, config and traits take their place, which can be spelled and planned but not played.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from bench import registry
from bench.errors import ArenaError, BadConfig
from bench.game import CostClass, Defense, Kind, MadeConfig, Player, Stage, Tier
from bench.records import sha256

Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(pattern=f"^{registry.NAME.pattern}$")]


class Option(BaseModel):
    """One field of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,60}$")]
    required: bool
    default: bool | int | float | Text | list[bool | int | float | Text | None] | None
    meaning: Text


class Declaration(BaseModel):
    """One player, as its file registers it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    kind: Kind
    doc: Text
    paper: Text
    source: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the file."""
    options: tuple[Option, ...]
    tier: Tier
    cost_class: CostClass
    traits: dict[Literal["preserves_function", "deterministic", "extraction", "uses_victim", "off_task"], bool]
    uploads: Annotated[int, Field(ge=1, le=100)]


def declare_all(path: Path) -> tuple[Declaration, ...]:
    """The declarations of every player that an imported file has registered. Runs where its code may run."""
    source = sha256(path)
    own = (player for player in registry.players() if player.__module__ == registry.plugin_module(path))
    return tuple(declare(player, source) for player in own)


def declare(player: type[Player], source: str) -> Declaration:
    """The declaration of a registered player with its default config, if it has one."""
    try:
        example: Any = player()
    except BadConfig:  # an option has no default
        example = player
    traits = {name: bool(getattr(player, name)) for name in _TRAITS if hasattr(player, name)}
    if isinstance(example, Defense):
        traits["preserves_function"] = example.claims_function
    return Declaration(
        name=player.name,
        kind=player.kind,
        doc=player.__doc__ or "",
        paper=player.paper,
        source=source,
        options=tuple(_option(name, info) for name, info in player.Config.model_fields.items()),
        tier=example.tier if isinstance(example, Stage) else getattr(player, "base_tier", Tier.DATA_FREE),
        cost_class=getattr(player, "cost_class", CostClass.ELEMENTWISE),
        traits=traits,
        uploads=getattr(player, "uploads", 1),
    )


def _option(name: str, info: FieldInfo) -> Option:
    required = info.is_required()
    default = None if required else to_jsonable_python(info.get_default(call_default_factory=True))
    return Option(name=name, required=required, default=default, meaning=info.description or "")


def stand_in(declaration: Declaration) -> type[Player]:
    """Register and return a player that is everything the declared one is, except that it cannot be played.

    Raises:
        ArenaError: another player has its name.
    """
    parent, method = registry.METHODS[declaration.kind]
    fields: dict[str, Any] = {option.name: (Any, option.default) for option in declaration.options}

    def play(self: Player, *arguments: Any) -> Any:
        raise ArenaError(f"{self.name} is a stand-in; its code runs in a player's process only")

    body: dict[str, Any] = {
        method: play,
        "__doc__": declaration.doc,
        "__module__": f"{__name__}.{declaration.source}",
        "Config": create_model("Config", __base__=MadeConfig, **fields),
        "paper": declaration.paper,
        "source": declaration.source,
        "base_tier": declaration.tier,
        "cost_class": declaration.cost_class,
        "uploads": declaration.uploads,
    } | dict(declaration.traits)
    player: type[Player] = type(declaration.name, (parent,), body)
    registry.register(declaration.kind)(declaration.name)(player)
    return player


@contextmanager
def standing_in(declaration: Declaration) -> Iterator[None]:
    """A stand-in for as long as it lasts.

    Raises:
        ArenaError: another player has its name.
    """
    player = stand_in(declaration)
    try:
        yield
    finally:
        registry.forget(player)


_TRAITS = get_args(get_args(Declaration.model_fields["traits"].annotation)[0])
