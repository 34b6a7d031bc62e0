"""Every defense against every attack, in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from mergearena.leaderboard.board.tables import FOLDED, letters, shaded
from mergearena.leaderboard.protection.parts import CellPart

_CELL, _PADDING = 3, 3
"""Characters of a matrix's cell, and between two."""


@dataclass(frozen=True)
class Matrix:
    """Defenses x attacks, coloured by ``recovered``; attacks are lettered as in :func:`attack_table`.

    As many attacks stand side by side as the terminal has room for; the others follow below.
    """

    defenses: Sequence[str]
    attacks: Sequence[str]
    cells: Mapping[tuple[str, str], CellPart]
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The tables."""
        named = list(letters(self.attacks).items())
        beside = max(1, (options.max_width - FOLDED["defense"]["min_width"] - _PADDING) // (_CELL + _PADDING))
        for start in range(0, len(named), beside):
            yield self._table(dict(named[start : start + beside]), self.title if start == 0 else None)

    def _table(self, named: Mapping[str, str], title: str | None) -> Table:
        table = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold", padding=(0, 1))
        table.add_column("defense", **FOLDED["defense"])
        for letter in named.values():
            table.add_column(letter, justify="right", no_wrap=True, min_width=_CELL)
        for defense in self.defenses:
            table.add_row(defense, *(_cell(self.cells.get((defense, attack))) for attack in named))
        return table


def _cell(cell: CellPart | None) -> Text:
    return Text("·", style="dim") if cell is None else shaded(cell.recovered, cell.status)
