"""What the commands know of each track: what its options mean, and how its board looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from mergearena.bench.games.backdoor import grid as backdoor_grid
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.backdoor.presets import ATTACKS, MERGERS
from mergearena.bench.games.base import Play
from mergearena.bench.games.grid import Options
from mergearena.bench.games.protection import grid as protection_grid
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.players.player import Player
from mergearena.bench.players.registry import registry
from mergearena.leaderboard.backdoor import terminal as backdoor_terminal
from mergearena.leaderboard.protection import terminal

if TYPE_CHECKING:
    from mergearena.leaderboard.board.leaderboard import Leaderboard


@dataclass(frozen=True)
class Track:
    """One track, as the commands see it."""

    plan: Callable[[Options], Sequence[Play]]
    so_far: Callable[[Sequence[Any], Leaderboard], Sequence[RenderableType]]
    """The plays of a run of this track and what is known of them, as a matrix."""
    shown: Callable[[Leaderboard], Iterable[RenderableType]]


TRACKS = {
    "protection": Track(
        protection_grid.planned,
        lambda plays, board: terminal.so_far(plays, board.protection),
        lambda board: map(terminal.render, board.protection),
    ),
    "backdoor": Track(
        backdoor_grid.planned,
        lambda plays, board: backdoor_terminal.so_far(plays, board.backdoor),
        lambda board: map(backdoor_terminal.render, board.backdoor),
    ),
}


def unplayed() -> list[str]:
    """Registered players that no preset plays; empty in this project, which a test asserts. Any merge is a merger."""
    stages: list[Player] = []
    for text in presets.every_defense("embedded"):
        stages += parse_defense(text).defenses
    for text in (*presets.BASELINES, *presets.CATALOGUE):
        stages += parse_attack(text).stages
    for text in MERGERS:
        stages += parse_merger(text).stages
    stages += [parse_backdoor(text) for text in ATTACKS]
    played = {stage.name for stage in stages}
    return [player.name for player in registry.players() if player.name not in played]
