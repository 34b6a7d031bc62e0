"""The game, as the benchmark finds it."""

from games.toy.play import PRESETS, TRACK, Record, planned
from mergearena.bench.games.game import Game

GAME = Game(
    name=TRACK,
    title="clean walls",
    summary="attacks paint a model, defenses clean it.",
    record=Record,
    plan=planned,
    presets=tuple(PRESETS),
    board="games.toy.board:BOARD",
)
