"""The backdoor game's side of the board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import altair as alt
from rich.console import RenderableType

from mergearena.bench.games.backdoor import Play, Record
from mergearena.leaderboard.backdoor import plots, terminal
from mergearena.leaderboard.backdoor.parts import BackdoorBoard
from mergearena.leaderboard.backdoor.rankings import Contributors, Mergers
from mergearena.leaderboard.backdoor.rows import backdoor_board
from mergearena.leaderboard.backdoor.section import BackdoorSection
from mergearena.leaderboard.board.games import GameBoard


class SafeMergingBoard(GameBoard[BackdoorBoard]):
    """Mergers by worst-case ASR, malicious contributors by mean ASR."""

    part = BackdoorBoard
    rankings: ClassVar = {
        "contributors": Contributors("succeeds on", higher=True),
        "mergers": Mergers("lets through", higher=False),
    }
    templates = Path(__file__).with_name("templates")

    def build(self, suite: str, records: Sequence[Record]) -> BackdoorBoard:
        """The board of one suite."""
        return backdoor_board(suite, records)

    def terminal(self, board: BackdoorBoard) -> RenderableType:
        """Matrix, rankings, flags and failures."""
        return terminal.render(board)

    def so_far(self, plays: Sequence[Play], boards: Sequence[BackdoorBoard]) -> Sequence[RenderableType]:
        """The matrix of ASR."""
        return terminal.so_far(plays, boards)

    def section(self, board: BackdoorBoard) -> BackdoorSection:
        """What its templates ask."""
        return BackdoorSection(board)

    def pictures(self, board: BackdoorBoard) -> Iterator[tuple[str, alt.VConcatChart]]:
        """Both plots in one."""
        return plots.pictures(board)


BOARD = SafeMergingBoard()
