"""What the page's templates ask of a board beyond its data, in every game."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, Protocol

import altair as alt
from markupsafe import Markup

from mergearena.leaderboard.board.parts import FlagPart, SuitePart
from mergearena.leaderboard.charts.labels import key
from mergearena.leaderboard.charts.scatter import to_svg
from mergearena.leaderboard.page.anchors import slug


class Cell(Protocol):
    """One defense against one attack (None: without any)."""

    @property
    def defense(self) -> str:
        """Its spelling."""

    @property
    def attack(self) -> str | None:
        """Its spelling."""

    @property
    def plays(self) -> int:
        """How many there were."""

    @property
    def status(self) -> dict[str, int]:
        """What became of them -> of how many."""


class Section:
    """One suite's board of one game: who defends, in the order of the ranking, and what became of each."""

    def __init__(self, track: str, board: SuitePart, defenses: Iterable[str], cells: Iterable[Cell]) -> None:
        self.suite = board.suite
        self.id = f"{track}/{slug(board.suite) or 'suite'}"
        self.cells: dict[tuple[str, str | None], Any] = {(cell.defense, cell.attack): cell for cell in cells}
        self.keys = {defense: key(place) for place, defense in enumerate(defenses)}
        self._board = board

    def against(self, attack: str) -> list[Any]:
        """The cells of an attack, in the order of the ranking."""
        return [cell for defense in self.keys if (cell := self.cells.get((defense, attack))) is not None]

    def failed(self, cell: Cell) -> str:
        """What became of the plays of a cell that did not finish: empty if all did."""
        return ", ".join(f"{count} of {cell.plays} {status}" for status, count in cell.status.items() if status != "ok")

    def flags(self, **where: str) -> list[FlagPart]:
        """The flags of a defense or an attack, named so: ``defense="params"``."""
        return [flag for flag in self._board.flags if all(getattr(flag, side) == name for side, name in where.items())]

    def protocol(self) -> dict[str, Any]:
        """What was held fixed, as names and texts."""
        held = self._board.protocol
        return {
            "records": held.records,
            "played": " to ".join(dict.fromkeys(date[:10] for date in held.dates)),
            "seeds": ", ".join(map(str, held.seeds)),
            "examples per task in the data tiers": ", ".join(map(str, held.examples)),
            "run keys": ", ".join(held.keys),
            "devices": ", ".join(held.devices),
            "Python": ", ".join(held.python),
            "packages": ", ".join(f"{name} {' / '.join(versions)}" for name, versions in held.packages.items()),
        }


def drawn(chart: alt.LayerChart) -> Markup:
    """Inline SVG; its renderer escapes texts."""
    return Markup(to_svg(chart))


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known, or None of none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else None
