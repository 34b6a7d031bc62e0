"""The protection game, as everything outside its folder sees it."""

from mergearena.bench.games.game import Game
from mergearena.bench.games.protection import grid, presets
from mergearena.bench.games.protection.record import TRACK, Record

GAME = Game(
    name=TRACK,
    title="protection",
    summary="defenses rewrite a victim, attacks merge it.",
    record=Record,
    plan=grid.planned,
    presets=presets.NAMES,
    board="mergearena.leaderboard.protection.board:BOARD",
    order=1,
)
