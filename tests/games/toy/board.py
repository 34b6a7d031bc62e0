"""Its side of the board."""

from collections import Counter
from pathlib import Path
from statistics import fmean

import altair as alt
from rich.table import Table

from mergearena.bench.games.match import spell
from mergearena.bench.games.statistics import group
from mergearena.leaderboard.board.games import GameBoard
from mergearena.leaderboard.board.parts import FailurePart, Part, SuitePart
from mergearena.leaderboard.board.rankings import ScoreRanking
from mergearena.leaderboard.board.shared import protocol
from mergearena.leaderboard.charts.axes import share_axis
from mergearena.leaderboard.charts.legend import with_names
from mergearena.leaderboard.charts.scatter import Point, panel
from mergearena.leaderboard.page.section import Section


class EraserPart(Part):
    """A row of the ranking: the dirtiest that an eraser left a model."""

    defense: str
    worst: float | None


class WallPart(Part):
    """An eraser on a painter's work."""

    defense: str
    attack: str
    plays: int
    status: dict[str, int]
    dirt: float | None


class WallBoard(SuitePart):
    """The board of a suite."""

    erasers: tuple[EraserPart, ...]
    cells: tuple[WallPart, ...]


class Erasers(ScoreRanking[WallBoard]):
    """By the dirt that they leave."""

    def scores(self, board):
        return {row.defense: row.worst for row in board.erasers}

    def shown(self, spelling, board):
        return [BOARD.terminal(board)]


class ToyBoard(GameBoard[WallBoard]):
    """Erasers by what they leave."""

    part = WallBoard
    rankings = {"erasers": Erasers("leaves", higher=False)}
    templates = Path(__file__).with_name("templates")

    def build(self, suite, records):
        erased = [r for r in records if r.kind == "erasing"]
        cells = tuple(
            WallPart(
                defense=defense,
                attack=attack,
                plays=len(here),
                status=dict(Counter(r.status for r in here)),
                dirt=fmean(dirt) if (dirt := [r.dirt for r in here if r.score]) else None,
            )
            for (defense, attack), here in sorted(group(erased, lambda r: (r.defense, r.attack)).items())
        )
        worst = {
            d: [c.dirt for c in here if c.dirt is not None] for d, here in group(cells, lambda c: c.defense).items()
        }
        rows = [EraserPart(defense=d, worst=max(dirt, default=None)) for d, dirt in worst.items()]
        shared = FailurePart.model_fields.keys() - {"match"}
        failures = [
            FailurePart(match=spell(r.tasks), **{name: getattr(r, name) for name in shared})
            for r in records
            if r.status != "ok"
        ]
        return WallBoard(
            suite=suite,
            metric=records[0].metric,
            protocol=protocol(records),
            flags=(),
            failures=tuple(failures),
            erasers=tuple(sorted(rows, key=lambda row: 1 if row.worst is None else row.worst)),
            cells=cells,
        )

    def terminal(self, board):
        table = Table("eraser", "dirt left, %", title=f"{board.suite}: clean walls")
        for row in board.erasers:
            table.add_row(row.defense, "–" if row.worst is None else f"{100 * row.worst:.1f}")
        return table

    def so_far(self, plays, boards):
        return [self.terminal(board) for board in boards]

    def section(self, board):
        section = Section("toy", board, (row.defense for row in board.erasers), board.cells)
        section.board = board
        return section

    def pictures(self, board):
        rows = [(letter, row) for letter, row in zip("ABC", board.erasers, strict=False) if row.worst is not None]
        points = [Point(letter, place / 10, row.worst, "ranked") for place, (letter, row) in enumerate(rows)]
        plot: alt.LayerChart = panel("walls", points, share_axis("place"), share_axis("dirt"))
        yield "dirt", with_names([plot], [(letter, row.defense) for letter, row in rows], columns=1)


BOARD = ToyBoard()
