"""What the page's plots show: one panel per tier, from the board of a suite."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from statistics import fmean

import altair as alt

from mergearena.bench.games.protection.scoring import MINIMUM_FIDELITY
from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.charts.axes import cost_axis, fidelity_axis, percent_axis, share_axis
from mergearena.leaderboard.charts.kinds import kind
from mergearena.leaderboard.charts.labels import key
from mergearena.leaderboard.charts.legend import with_names
from mergearena.leaderboard.charts.scatter import Point, panel
from mergearena.leaderboard.protection.parts import AttackPart, DefensePart, SuiteBoard

_NUMERIC_OPTION = re.compile(r"\w+=[-+]?[\d.][\w.+-]*,?\s*")


def family(spelling: str) -> str:
    """A defense's spelling without its numeric options: what the points of a sweep have in common."""
    return re.sub(r",?\s*\)", ")", _NUMERIC_OPTION.sub("", spelling)).replace("()", "")


def resistance_against_cost(board: SuiteBoard, tier: Tier) -> alt.LayerChart:
    """Resistance in a tier against what protecting costs; one fine-tuning is marked."""
    axis = cost_axis("protect cost", (row.relative_protect_cost for row in board.defenses))
    return panel(tier, _resistances(board, tier, lambda row: row.relative_protect_cost), axis, share_axis("resistance"))


def resistance_against_fidelity(board: SuiteBoard, tier: Tier) -> alt.LayerChart:
    """Resistance in a tier against the score that protecting keeps; lines join a defense at different numbers."""
    axis = fidelity_axis((row.fidelity for row in board.defenses), MINIMUM_FIDELITY)
    points = _resistances(board, tier, lambda row: row.fidelity, joined=True)
    return panel(tier, points, axis, share_axis("resistance"))


def _resistances(
    board: SuiteBoard, tier: Tier, value: Callable[[DefensePart], float | None], joined: bool = False
) -> list[Point]:
    points = []
    for place, row in enumerate(board.defenses):
        x, part = value(row), row.resistance.get(tier)
        if x is not None and part is not None:
            sweep = family(row.defense) if joined else ""
            points.append(Point(key(place), x, part.mean, kind(row), part.low, part.high, sweep))
    return points


def scores(board: SuiteBoard, tier: Tier) -> alt.LayerChart:
    """The victim's score as released, against that in the strongest merge of a tier, over the same matches.

    Where no attack qualifies, an attacker is left with the floor. Floor and ceiling are marked.
    """
    references = {(m.match, m.seed): m.tiers[tier] for m in board.matches if tier in m.tiers and m.tiers[tier].is_match}
    points = []
    for place, row in enumerate(board.defenses):
        cases = [w for w in row.worst if w.tier == tier and (w.match, w.seed) in references]
        if row.protected_score is not None and cases:
            left = [references[w.match, w.seed].floor if w.score is None else w.score for w in cases]
            points.append(Point(key(place), row.protected_score, fmean(left), kind(row)))
    ends = [fmean(values) for values in zip(*((r.floor, r.ceiling) for r in references.values()), strict=True)]
    x = percent_axis("score as released, %", [point.x for point in points])
    y = percent_axis("after the strongest merge, %", [point.y for point in points], rules=ends)
    return panel(tier, points, x, y)


def attacks_in(board: SuiteBoard, tier: Tier) -> list[tuple[str, AttackPart]]:
    """Letter and row of the attacks that a tier allows and that have both numbers, in the order of the board."""
    lettered = [(key(place).lower(), row) for place, row in enumerate(board.attacks)]
    return [
        (letter, row)
        for letter, row in lettered
        if row.recovered is not None and row.relative_cost is not None and tier.allows(Tier(row.tier))
    ]


def front(board: SuiteBoard, tier: Tier) -> list[tuple[str, AttackPart]]:
    """The attacks of a tier that nobody beats for less, by cost: of those that met the most defenses.

    The mean of an attack that met but a few defenses, such as a late step of ``auto``, is of other cases.
    """
    most = _most_met(board)
    able = [(letter, row) for letter, row in attacks_in(board, tier) if row.defenses_met == most]
    found: list[tuple[str, AttackPart]] = []
    for letter, row in sorted(able, key=lambda pair: (pair[1].relative_cost, -(pair[1].recovered or 0))):
        if not found or (row.recovered or 0) > (found[-1][1].recovered or 0):
            found.append((letter, row))
    return found


def _most_met(board: SuiteBoard) -> int:
    return max((row.defenses_met for row in board.attacks), default=0)


def recovered_against_cost(board: SuiteBoard, tier: Tier) -> alt.LayerChart:
    """What an attack recovers, mean over the defenses, against what it pays; the front is a line, and lettered."""
    best, most = front(board, tier), _most_met(board)
    named = {row.attack for _, row in best}
    points = [
        Point(
            letter if row.attack in named else "",
            row.relative_cost or 0,
            row.recovered or 0,
            "ranked" if row.defenses_met == most else "partly",
        )
        for letter, row in attacks_in(board, tier)
    ]
    axis = cost_axis("attack cost", (row.relative_cost for row in board.attacks))
    corners = [(row.relative_cost or 0.0, row.recovered or 0.0) for _, row in best]
    end = [(axis.end, corners[-1][1])] if corners else []
    ordered = sorted(points, key=lambda point: bool(point.letter))
    return panel(tier, ordered, axis, share_axis("recovered"), front=[*corners, *end])


def pictures(board: SuiteBoard) -> Iterator[tuple[str, alt.VConcatChart]]:
    """Names and charts of the plots that stand alone."""
    defenses = [(key(place), row.defense) for place, row in enumerate(board.defenses)]
    panels = [resistance_against_cost(board, tier) for tier in Tier]
    yield "resistance-against-cost", with_names(panels, defenses, columns=3)
    fronts = {letter: row.attack for tier in Tier for letter, row in front(board, tier)}
    panels = [recovered_against_cost(board, tier) for tier in Tier]
    yield "recovered-against-cost", with_names(panels, sorted(fronts.items()), columns=1)
