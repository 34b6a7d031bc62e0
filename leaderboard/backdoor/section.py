"""What the page's templates ask of a board of safe merging."""

from __future__ import annotations

from markupsafe import Markup

from mergearena.leaderboard.backdoor import plots
from mergearena.leaderboard.backdoor.parts import BackdoorBoard, BackdoorCellPart, MergerPart
from mergearena.leaderboard.page.anchors import anchors
from mergearena.leaderboard.page.section import Section, drawn


class BackdoorSection(Section):
    """A board of the backdoor game."""

    def __init__(self, board: BackdoorBoard) -> None:
        super().__init__("backdoor", board, (row.defense for row in board.mergers), board.cells)
        self.board = board
        self.links = anchors(f"{self.id}/merger", self.keys)
        self.attack_links = anchors(f"{self.id}/attack", (row.attack for row in board.contributors))

    @property
    def leaders(self) -> list[MergerPart]:
        """Whoever has the first rank."""
        return [row for row in self.board.mergers if row.rank == 1]

    def rank(self, row: MergerPart) -> str:
        """The rank, and whether it is a tie."""
        if row.rank is None:
            return "–"
        return f"{row.rank} tie" if sum(other.rank == row.rank for other in self.board.mergers) > 1 else str(row.rank)

    def panels(self) -> list[tuple[str, str, Markup]]:
        """Class, label and SVG of each plot."""
        return [
            ("", "worst ASR against clean score", drawn(plots.asr_against_score(self.board))),
            ("", "succession against transfer", drawn(plots.succession_against_transfer(self.board))),
        ]

    def met_by(self, merger: str) -> list[BackdoorCellPart]:
        """What became of a merger under each contributor, and, last, without any."""
        found = [cell for cell in self.board.cells if cell.defense == merger]
        return sorted(found, key=lambda cell: (cell.attack is None, -(cell.asr or 0)))
