"""Which role a kind of player has: the one place where a submission's kind is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergearena.bench.errors import UnknownName
from mergearena.bench.players.stand_in import Declaration
from mergearena.bench.submit import backdoor, protection
from mergearena.bench.submit.entry import Entry

ROLES: Mapping[str, type[Entry[Any]]] = {
    "defense": protection.Defense,
    "align": protection.Align,
    "merge": protection.Merge,
    "recover": protection.Recover,
    "attack": protection.Attack,
    "backdoor": backdoor.Contributor,
    "sanitize": backdoor.SafeMerge,
    "repair": backdoor.Repair,
}
"""Kind of player -> its role."""


def entry_of(player: Declaration, pipeline: str | None = None) -> Entry[Any]:
    """A submitted player in its role; ``pipeline`` is the whole that its submitter wants it scored in, if any.

    Raises:
        UnknownName: no game has players of its kind.
    """
    if player.kind not in ROLES:
        raise UnknownName(f"{player.name}: a {player.kind} cannot be submitted; there are: {', '.join(ROLES)}")
    return ROLES[player.kind](player, pipeline)
