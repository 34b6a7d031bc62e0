"""What a submitted file says of its players, so that they can be planned and judged where their code never runs.

The file is imported in an isolated process only. There its players are *declared*; everywhere else *stand-ins* of the
same name, config and traits take their place, which can be spelled and planned but not played.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_jsonable_python

from mergearena.bench.errors import ArenaError, BadConfig
from mergearena.bench.players.identity import identity_of_file
from mergearena.bench.players.options import Option, options_of
from mergearena.bench.players.player import MadeConfig, Player
from mergearena.bench.players.plugins import plugin_module
from mergearena.bench.players.registry import NAMED_PATTERN, registry

Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(pattern=NAMED_PATTERN)]


class DeclaredOption(BaseModel):
    """One option of a player, as another process may tell of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,60}$")]
    required: bool
    default: bool | int | float | Text | list[bool | int | float | Text | None] | None
    meaning: Text


class Declaration(BaseModel):
    """One player, as its file registers it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    kind: Annotated[str, Field(max_length=60)]
    doc: Text
    source: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Identity of the file: a hash of the code that decides what its players do."""
    options: tuple[DeclaredOption, ...]
    traits: dict[Annotated[str, Field(max_length=60)], bool | int | Text]
    """Those of its kind, as it is with its default config."""

    @property
    def paper(self) -> str:
        """Where the method comes from."""
        return str(self.traits.get("paper", ""))


def declare_all(path: Path) -> tuple[Declaration, ...]:
    """The declarations of every player that an imported file has registered. Runs where its code may run.

    Raises:
        ArenaError: something that it imports from this project is not found.
    """
    source = identity_of_file(path)
    own = (player for player in registry.players() if player.__module__ == plugin_module(path))
    return tuple(declare(player, source) for player in own)


def declare(player: type[Player], source: str) -> Declaration:
    """The declaration of a registered player with its default config, if it has one."""
    traits = registry.kinds[player.kind].traits
    try:
        example = player()
    except BadConfig:  # an option has no default
        values = {name: getattr(player, trait.attribute or name) for name, trait in traits.items()}
    else:
        values = {name: example.trait(name, trait) for name, trait in traits.items()}
    return Declaration(
        name=player.name,
        kind=player.kind,
        doc=player.__doc__ or "",
        source=source,
        options=tuple(map(_declared, options_of(player).values())),
        traits=values,
    )


def _declared(option: Option) -> DeclaredOption:
    default = to_jsonable_python(option.value)
    return DeclaredOption(name=option.name, required=option.required, default=default, meaning=option.meaning)


def stand_in(declaration: Declaration) -> type[Player]:
    """Register and return a player that is everything the declared one is, except that it cannot be played.

    Raises:
        ArenaError: another player has its name, or there is no such kind or trait.
    """
    kind = registry.kind_of(declaration.kind)
    fields: dict[str, Any] = {option.name: (Any, option.default) for option in declaration.options}

    def play(self: Player, *arguments: Any) -> Any:
        raise ArenaError(f"{self.name} is a stand-in; its code runs in a player's process only")

    body: dict[str, Any] = {
        kind.method: play,
        "__doc__": declaration.doc,
        "__module__": f"{__name__}.{declaration.source}",
        "Config": create_model("Config", __base__=MadeConfig, **fields),
        "source": declaration.source,
    }
    player: type[Player] = type(declaration.name, (kind.parent,), body)
    with registry.opened():
        registry.register(declaration.kind)(declaration.name, **declaration.traits)(player)
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
