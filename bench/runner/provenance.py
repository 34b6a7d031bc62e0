"""What made a record: players' code, packages, the unit of relative cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError
from mergearena.bench.games import metering
from mergearena.bench.games.base import Play
from mergearena.bench.players.code import families_of, identity_of
from mergearena.bench.players.identity import identity_of_file
from mergearena.bench.players.plugins import plugin_module
from mergearena.bench.players.registry import registry

PACKAGES = ("mergearena", "torch", "numpy", "scipy", "open_clip_torch", "transformers", "safetensors")


def code_of(play: Play) -> dict[str, str]:
    """Player -> identity of the code that decides its outcome on the play's suite.

    Raises:
        ArenaError: a player's code is not found.
    """
    families = families_of(play.protocol.suite)
    return {player.name: player.source or identity_of(type(player), families) for player in play.players}


@dataclass(frozen=True)
class Code:
    """The code that a play is planned with."""

    players: Mapping[str, str]
    """Player -> identity, as :func:`code_of` tells."""
    families: tuple[str, ...]
    """The families of models that they meet."""

    @classmethod
    def of(cls, play: Play) -> Code:
        """What a play is planned with, as far as its player's process may know who plays."""
        return cls(code_of(play.shown()), families_of(play.protocol.suite))

    def identities(self, plugin: Path) -> set[str]:
        """What the players of a file are identified by: as declared ones, they are of no suite and so of no family."""
        return {identity_of_file(plugin, families) for families in (self.families, ())}

    def require(self, plugins: Mapping[Path, set[str]]) -> None:
        """Check that the players of this process are those that are planned with.

        Args:
            plugins: file -> :meth:`identities`, as they were before it was imported here.

        Raises:
            ArenaError: one is another; the message names it.
        """
        imported = {plugin_module(path): identities for path, identities in plugins.items()}
        for name, planned in self.players.items():
            player = registry.find(name)
            if planned not in imported.get(player.__module__, {identity_of(player, self.families)}):
                raise ArenaError(
                    f"{name}: the code that was imported to play is not what the play was planned with: its file, or "
                    "what that imports, was edited meanwhile, or another is found in its place; run the command again"
                )


@cache
def packages() -> dict[str, str]:
    """Package -> version, of those that numbers may depend on."""
    return {name: version(name) for name in PACKAGES}


@cache
def fine_tuning_flops(suite: str) -> int:
    """Operations of fine-tuning one model of a suite, measured once."""
    return metering.fine_tuning_flops(suites.get(suite))
