"""What the players of a board are, in their authors' words: of this project's players alone.

Others are described by their submissions: what is installed beside this project differs from machine to machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from mergearena.bench.players.options import options_of
from mergearena.bench.players.player import Player
from mergearena.bench.players.registry import registry
from mergearena.bench.records.record import Record
from mergearena.leaderboard.board.parts import OptionPart, PlayerPart

OURS = ("mergearena.attacks.", "mergearena.defenses.")
"""Where the modules of this project's players are."""


def described(records: Iterable[Record]) -> tuple[PlayerPart, ...]:
    """Every player of this project that some record met, by name."""
    met = {name for record in records for name in record.provenance.code}
    ours = (p for p in registry.players() if p.name in met and p.__module__.startswith(OURS))
    return tuple(
        PlayerPart(
            name=player.name,
            kind=player.kind,
            paper=player.paper,
            description=inspect.cleandoc(player.__doc__ or ""),
            options=tuple(_options(player)),
        )
        for player in ours
    )


def _options(player: type[Player]) -> Iterator[OptionPart]:
    for option in options_of(player).values():
        yield OptionPart(name=option.name, default=option.default, meaning=" ".join(option.meaning.split()))
