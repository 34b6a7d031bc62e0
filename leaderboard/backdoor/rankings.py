"""The rankings of malicious contributors and of mergers."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType

from mergearena.leaderboard.backdoor import terminal
from mergearena.leaderboard.backdoor.parts import BackdoorBoard
from mergearena.leaderboard.board.rankings import ScoreRanking, Scores


class Contributors(ScoreRanking[BackdoorBoard]):
    """By their success rate."""

    def scores(self, board: BackdoorBoard) -> Scores:
        """Attack -> mean ASR."""
        return {row.attack: row.asr for row in board.contributors}

    def shown(self, spelling: str, board: BackdoorBoard) -> Iterable[RenderableType]:
        """The whole board."""
        return [terminal.render(board)]


class Mergers(ScoreRanking[BackdoorBoard]):
    """By the worst that they let through."""

    def scores(self, board: BackdoorBoard) -> Scores:
        """Merger -> worst-case ASR."""
        return {row.defense: row.worst_asr.mean if row.worst_asr else None for row in board.mergers}

    def shown(self, spelling: str, board: BackdoorBoard) -> Iterable[RenderableType]:
        """The whole board."""
        return [terminal.render(board)]
