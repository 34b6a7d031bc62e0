"""What the page's templates ask of the boards beyond their data: links, letters, plots, and rows of the details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import altair as alt
from markupsafe import Markup

from bench.game import Tier
from bench.scoring import group
from leaderboard import plots
from leaderboard.anchors import anchors, slug
from leaderboard.board import (
    AttackPart,
    BackdoorBoard,
    BackdoorCellPart,
    CellPart,
    DefensePart,
    FlagPart,
    MergerPart,
    SuiteBoard,
    tied,
)
from leaderboard.labels import key
from leaderboard.scatter import to_svg


class Section:
    """One suite's board of one track."""

    def __init__(self, track: str, board: SuiteBoard | BackdoorBoard, defenses: Iterable[str]) -> None:
        self.suite = board.suite
        self.id = f"{track}/{slug(board.suite) or 'suite'}"
        self.cells: dict[tuple[str, str | None], Any] = {(cell.defense, cell.attack): cell for cell in board.cells}
        self.keys = {defense: key(place) for place, defense in enumerate(defenses)}
        self._board = board

    def against(self, attack: str) -> list[Any]:
        """The cells of an attack, in the order of the ranking."""
        return [cell for defense in self.keys if (cell := self.cells.get((defense, attack))) is not None]

    def failed(self, cell: CellPart | BackdoorCellPart) -> str:
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


@dataclass(frozen=True)
class Case:
    """A defense on one match in one tier, over its seeds."""

    match: str
    tier: str
    released: float | None
    """Accuracy of the releases."""
    recovered: float
    accuracy: float | None
    """After the strongest merges, on the victim's task; None if none qualified."""
    donor_accuracy: float | None
    attacks: Sequence[str | None]
    """The strongest of each seed, each once."""


class ProtectionSection(Section):
    """A board of the protection track."""

    def __init__(self, board: SuiteBoard) -> None:
        super().__init__("protection", board, (row.defense for row in board.defenses))
        self.board = board
        self.ties = tied(board.defenses)
        self.attacks = [attack for attack in board.attacks if attack.uses_victim]
        self.attack_keys = {row.attack: key(place).lower() for place, row in enumerate(board.attacks)}
        self.links = anchors(f"{self.id}/defense", self.keys)
        self.attack_links = anchors(f"{self.id}/attack", self.attack_keys)
        self.matches = len({match.match for match in board.matches})
        self.unplotted = [row for row in board.defenses if not row.resistance or row.relative_protect_cost is None]

    def fronts(self) -> list[tuple[list[str], list[tuple[str, AttackPart]]]]:
        """Tiers, and the attacks on their front in the plot of costs; tiers with the same front together."""
        found: list[tuple[list[str], list[tuple[str, AttackPart]]]] = []
        for tier in Tier:
            front = plots.front(self.board, tier)
            if found and found[-1][1] == front:
                found[-1][0].append(tier.value)
            elif front:
                found.append(([tier.value], front))
        return found

    def panels(self, name: str) -> list[tuple[str, str, Markup]]:
        """Class, label and SVG of each tier, of a plot of :mod:`leaderboard.plots`."""
        draw = getattr(plots, name)
        return [(f"tier {tier}", tier.value, _drawn(draw(self.board, tier))) for tier in Tier]

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

    def strongest(self, row: DefensePart) -> Iterator[tuple[str, str | None, int, int]]:
        """Tier, attack, on how many matches and seeds it is the strongest, and of how many."""
        for tier, cases in group(row.worst, lambda w: w.tier).items():
            counted = Counter(case.attack for case in cases)
            for attack, count in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0] or "")):
                yield tier, attack, count, len(cases)

    def cases(self, row: DefensePart) -> Iterator[Case]:
        """The matches that a defense was attacked on."""
        victims = {match.match: match.victim for match in self.board.matches}
        released = group(row.releases, lambda r: r.victim)
        for (match, tier), here in group(row.worst, lambda w: (w.match, w.tier)).items():
            yield Case(
                match=match,
                tier=tier,
                released=_mean([r.accuracy for r in released.get(victims[match], ())]),
                recovered=fmean(w.recovered for w in here),
                accuracy=_mean([w.accuracy for w in here]),
                donor_accuracy=_mean([w.donor_accuracy for w in here]),
                attacks=tuple(dict.fromkeys(w.attack for w in here)),
            )


class BackdoorSection(Section):
    """A board of the backdoor track."""

    def __init__(self, board: BackdoorBoard) -> None:
        super().__init__("backdoor", board, (row.defense for row in board.mergers))
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
            ("", "worst ASR against clean accuracy", _drawn(plots.asr_against_accuracy(self.board))),
            ("", "succession against transfer", _drawn(plots.succession_against_transfer(self.board))),
        ]

    def met_by(self, merger: str) -> list[BackdoorCellPart]:
        """What became of a merger under each contributor, and, last, without any."""
        found = [cell for cell in self.board.cells if cell.defense == merger]
        return sorted(found, key=lambda cell: (cell.attack is None, -(cell.asr or 0)))


def _drawn(chart: alt.LayerChart) -> Markup:
    """Inline SVG; its renderer escapes texts."""
    return Markup(to_svg(chart))


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None
