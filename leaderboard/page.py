"""The board -> one HTML page that needs nothing else: a pure function; the same board gives the same bytes."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.game import Tier
from bench.scoring import MINIMUM_FIDELITY, MINIMUM_GAP, QUALIFYING
from bench.terminal import percent, relative
from leaderboard import plots
from leaderboard.board import (
    BackdoorBoard,
    BackdoorCellPart,
    CellPart,
    DefensePart,
    Leaderboard,
    MergerPart,
    SuiteBoard,
    tied,
)
from leaderboard.labels import key

TEMPLATES = Path(__file__).with_name("templates")
_BREAKS = re.compile(r"(?<=[+,(_/])|(?<=> )|(?<=[a-z]-)(?=[a-z])")


def render(board: Leaderboard) -> str:
    """The page of a board: HTML with its style, its plots and no reference to anything outside."""
    return (
        _templates()
        .get_template("page.html.jinja")
        .render(
            suites=[_Section(suite) for suite in board.protection],
            mergers=[_MergerSection(suite) for suite in board.backdoor],
            minimum_fidelity=MINIMUM_FIDELITY,
            minimum_gap=MINIMUM_GAP,
            qualifying=QUALIFYING,
        )
    )


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals |= {"tiers": [tier.value for tier in Tier], "tier_heads": [(tier.value, "") for tier in Tier]}
    found.filters |= {"percent": percent, "relative": relative, "spelled": spelled}
    return found


def spelled(text: str) -> Markup:
    """A spelling, escaped, that may be broken between its parts."""
    return Markup("<wbr>").join(part for part in _BREAKS.split(text) if part)


class _AnySection:
    """One suite's board of one track, with what the templates of both ask for beyond it."""

    def __init__(self, board: SuiteBoard | BackdoorBoard, title: str) -> None:
        self.title = title
        self.id = re.sub(r"\s", "-", title)
        self._held = board.protocol

    def failed(self, cell: CellPart | BackdoorCellPart) -> str:
        """What became of the plays of a cell that did not finish: empty if all did."""
        return ", ".join(f"{count} of {cell.plays} {status}" for status, count in cell.status.items() if status != "ok")

    def protocol(self) -> dict[str, Any]:
        """What was held fixed, as names and texts."""
        held = self._held
        return {
            "records": held.records,
            "played": " to ".join(dict.fromkeys(date[:10] for date in held.dates)),
            "seeds": ", ".join(map(str, held.seeds)),
            "examples per task in the data tiers": ", ".join(map(str, held.examples)),
            "run keys": ", ".join(held.keys),
            "devices": ", ".join(held.devices),
            "packages": ", ".join(f"{name} {' / '.join(versions)}" for name, versions in held.packages.items()),
        }


class _MergerSection(_AnySection):
    """The backdoor track."""

    def __init__(self, board: BackdoorBoard) -> None:
        super().__init__(board, f"{board.suite}: safe merging")
        self.board = board
        self.cells = {(cell.defense, cell.attack): cell for cell in board.cells}

    @property
    def leader(self) -> MergerPart | None:
        """Whoever comes first, if anybody is ranked."""
        return next((row for row in self.board.mergers if row.rank == 1), None)


class _Section(_AnySection):
    """The protection track."""

    def __init__(self, board: SuiteBoard) -> None:
        super().__init__(board, board.suite)
        self.board = board
        self.keys = {row.defense: key(place) for place, row in enumerate(board.defenses)}
        self.ties = tied(board.defenses)
        self.attacks = [attack for attack in board.attacks if attack.uses_victim]
        self.cells = {(cell.defense, cell.attack): cell for cell in board.cells}
        self.of_cost = self._panels(plots.cost_axis(board.defenses))
        self.of_fidelity = self._panels(plots.fidelity_axis(board.defenses))
        self.unplotted = [row for row in board.defenses if not row.resistance or row.relative_protect_cost is None]

    def _panels(self, axis: plots.Axis) -> list[tuple[str, Markup]]:
        """Tier and plot; the plot's texts are escaped by its renderer."""
        rows = self.board.defenses
        return [(tier.value, Markup(plots.panel(rows, self.keys, tier, axis))) for tier in Tier]

    def rank(self, row: DefensePart) -> str:
        """The rank, and whether it is a tie."""
        if row.rank is None:
            return "–"
        return f"{row.rank} tie" if row.defense in self.ties else str(row.rank)

    @property
    def leaders(self) -> list[DefensePart]:
        """Whoever has the first rank."""
        return [row for row in self.board.defenses if row.rank == 1]

    @property
    def none_leads(self) -> bool:
        """Whether leaving the victim as it is has the first rank, too."""
        return any(row.defense == "none" for row in self.leaders)

    @property
    def matches(self) -> int:
        """How many matches there are, seeds apart."""
        return len({match.match for match in self.board.matches})

    def key_of(self, name: str) -> Markup:
        """A defense's letter, coloured as its points are."""
        row = next(row for row in self.board.defenses if row.defense == name)
        kind = "unranked" if row.rank is None else "ranked"
        return Markup('<b class="key {}">{}</b>').format(kind, self.keys[name])
