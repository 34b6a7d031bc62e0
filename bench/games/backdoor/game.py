"""The backdoor game, as everything outside its folder sees it."""

from mergearena.bench.games.backdoor import grid, presets
from mergearena.bench.games.backdoor.record import TRACK, Record
from mergearena.bench.games.game import Game

GAME = Game(
    name=TRACK,
    title="safe merging",
    summary="attacks poison uploads, defenses merge them safely.",
    record=Record,
    plan=grid.planned,
    presets=presets.NAMES,
    board="mergearena.leaderboard.backdoor.board:BOARD",
    order=2,
)
