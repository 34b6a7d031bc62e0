"""What the page's templates ask of the boards beyond their data: links, letters, plots, and rows of the details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from mergearena.bench.games.statistics import group
from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.charts.labels import key
from mergearena.leaderboard.page.anchors import anchors
from mergearena.leaderboard.page.section import Section, drawn, mean_of
from mergearena.leaderboard.protection import plots
from mergearena.leaderboard.protection.parts import AttackPart, DefensePart, SuiteBoard, tied


@dataclass(frozen=True)
class Case:
    """A defense on one match in one tier, over its seeds."""

    match: str
    tier: str
    released: float | None
    """Score of the releases."""
    recovered: float
    score: float | None
    """After the strongest merges, on the victim's task; None if none qualified."""
    donor_score: float | None
    attacks: Sequence[str | None]
    """The strongest of each seed, each once."""


class ProtectionSection(Section):
    """A board of the protection track."""

    def __init__(self, board: SuiteBoard) -> None:
        super().__init__("protection", board, (row.defense for row in board.defenses), board.cells)
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
        """Class, label and SVG of each tier, of a plot of :mod:`mergearena.leaderboard.protection.plots`."""
        draw = getattr(plots, name)
        return [(f"tier {tier}", tier.value, drawn(draw(self.board, tier))) for tier in Tier]

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
                released=mean_of([r.score for r in released.get(victims[match], ())]),
                recovered=fmean(w.recovered for w in here),
                score=mean_of([w.score for w in here]),
                donor_score=mean_of([w.donor_score for w in here]),
                attacks=tuple(dict.fromkeys(w.attack for w in here)),
            )
