"""What the plots of safe merging show."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from mergearena.leaderboard.backdoor.parts import BackdoorBoard
from mergearena.leaderboard.backdoor.rows import MOST_LOST
from mergearena.leaderboard.charts.axes import percent_axis
from mergearena.leaderboard.charts.kinds import kind
from mergearena.leaderboard.charts.labels import key
from mergearena.leaderboard.charts.legend import with_names
from mergearena.leaderboard.charts.scatter import Point, panel


def asr_against_score(board: BackdoorBoard) -> alt.LayerChart:
    """Worst-case ASR against clean score, with its intervals; the least clean score that ranks is marked."""
    rows = board.mergers
    known = [row.score for row in rows if row.score is not None]
    points = [
        Point(key(place), row.score, row.worst_asr.mean, kind(row), row.worst_asr.low, row.worst_asr.high)
        for place, row in enumerate(rows)
        if row.score is not None and row.worst_asr is not None
    ]
    x = percent_axis("clean score, %", known, rules=[max(known) - MOST_LOST] if known else [])
    return panel("worst case", points, x, percent_axis("worst ASR, %"))


def succession_against_transfer(board: BackdoorBoard) -> alt.LayerChart:
    """Mean ASR on the attacker's own task against that on the others' tasks."""
    points = [
        Point(key(place), row.transfer, row.succession, kind(row))
        for place, row in enumerate(board.mergers)
        if row.transfer is not None and row.succession is not None
    ]
    x = percent_axis("ASR on the others' tasks, % (transfer)")
    return panel("reach", points, x, percent_axis("ASR on the attacker's task, % (succession)"))


def pictures(board: BackdoorBoard) -> Iterator[tuple[str, alt.VConcatChart]]:
    """Names and charts of the plots that stand alone."""
    mergers = [(key(place), row.defense) for place, row in enumerate(board.mergers)]
    panels = [asr_against_score(board), succession_against_transfer(board)]
    yield "asr-against-score", with_names(panels, mergers, columns=2)
