"""The protection game's side of the board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import altair as alt
from rich.console import RenderableType

from mergearena.bench.games.protection import Play, Record
from mergearena.bench.games.protection.scoring import MINIMUM_FIDELITY, MINIMUM_GAP, QUALIFYING
from mergearena.leaderboard.board.games import GameBoard
from mergearena.leaderboard.protection import plots, terminal
from mergearena.leaderboard.protection.parts import SuiteBoard
from mergearena.leaderboard.protection.rankings import Attacks, Defenses
from mergearena.leaderboard.protection.rows import suite_board
from mergearena.leaderboard.protection.section import ProtectionSection


class ProtectionBoard(GameBoard[SuiteBoard]):
    """Defenses by resistance, attacks by what they recover."""

    part = SuiteBoard
    rankings: ClassVar = {"defenses": Defenses(), "attacks": Attacks("recovers", higher=True)}
    templates = Path(__file__).with_name("templates")
    numbers: ClassVar = {"minimum_fidelity": MINIMUM_FIDELITY, "minimum_gap": MINIMUM_GAP, "qualifying": QUALIFYING}

    def build(self, suite: str, records: Sequence[Record]) -> SuiteBoard:
        """The board of one suite."""
        return suite_board(suite, records)

    def terminal(self, board: SuiteBoard) -> RenderableType:
        """Matrix, rankings, matches, flags and failures."""
        return terminal.render(board)

    def so_far(self, plays: Sequence[Play], boards: Sequence[SuiteBoard]) -> Sequence[RenderableType]:
        """The matrix of what is recovered."""
        return terminal.so_far(plays, boards)

    def section(self, board: SuiteBoard) -> ProtectionSection:
        """What its templates ask."""
        return ProtectionSection(board)

    def pictures(self, board: SuiteBoard) -> Iterator[tuple[str, alt.VConcatChart]]:
        """Both plots of costs."""
        return plots.pictures(board)


BOARD = ProtectionBoard()
