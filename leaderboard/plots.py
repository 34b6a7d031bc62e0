"""The page's plots as SVG: one small panel per tier, colours left to the page's style sheet.

Panels are small enough to be read on a phone and to stand side by side elsewhere. Points carry letters, as rows of
the ranking do: spellings are too long to stand in a plot. Nothing is clipped, since clip paths get identifiers that
count up within a process, and the same board must give the same bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import vl_convert

from bench.game import Tier
from bench.scoring import MINIMUM_FIDELITY
from leaderboard.board import DefensePart
from leaderboard.labels import place

WIDTH, HEIGHT = 300, 240
FONT = "Roboto, Helvetica Neue, Arial, sans-serif"
LINEAR_UNDER = 1e-6
"""Relative cost under which the cost axis is linear: it must hold zero."""

_NUMERIC_OPTION = re.compile(r"\w+=[-+]?[\d.][\w.+-]*,?\s*")


@dataclass(frozen=True)
class Axis:
    """What a plot has on its x axis."""

    title: str
    value: Callable[[DefensePart], float | None]
    scale: alt.Scale
    at: Callable[[float], float]
    """Value -> share of the panel's width."""
    ticks: Sequence[float]
    labels: str
    """Vega expression of a tick's label."""
    rule: float
    """Where to draw a line."""
    connected: bool = False
    """Whether lines join a defense's points at different numeric options."""


def cost_axis(rows: Sequence[DefensePart]) -> Axis:
    """Protect cost relative to one fine-tuning, from zero."""
    largest = max([1.0, *(row.relative_protect_cost or 0 for row in rows)]) * 1.5

    def at(value: float) -> float:
        return math.log1p(value / LINEAR_UNDER) / math.log1p(largest / LINEAR_UNDER)

    decades = range(-5, math.floor(math.log10(largest)) + 1)
    return Axis(
        title="protect cost, relative to one fine-tuning",
        value=lambda row: row.relative_protect_cost,
        scale=alt.Scale(type="symlog", constant=LINEAR_UNDER, domain=[0, largest], nice=False),
        at=at,
        ticks=[0, *(10.0**decade for decade in decades)],
        labels="datum.value == 0 ? '0' : datum.value < 0.9 ? format(100 * datum.value, '~g') + '%' "
        ": format(datum.value, '~g') + '×'",
        rule=1.0,
    )


def fidelity_axis(rows: Sequence[DefensePart]) -> Axis:
    """Share of the victim's accuracy that is left after protection."""
    present = [row.fidelity for row in rows if row.fidelity is not None]
    low = math.floor(20 * min([0.95, *present])) / 20
    high = max([1.0, *present]) + 0.02 * (1 - low)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, math.inf) if (high - low) / s <= 6)
    ticks = [1 - i * step for i in range(math.floor((1 - low) / step + 1e-9) + 1)]
    return Axis(
        title="fidelity (accuracy kept by protection)",
        value=lambda row: row.fidelity,
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        at=lambda value: (value - low) / (high - low),
        ticks=ticks,
        labels="format(datum.value, '~g')",
        rule=MINIMUM_FIDELITY,
        connected=True,
    )


def family(spelling: str) -> str:
    """A defense's spelling without its numeric options: what the points of a sweep have in common."""
    return re.sub(r",?\s*\)", ")", _NUMERIC_OPTION.sub("", spelling)).replace("()", "")


def panel(rows: Sequence[DefensePart], keys: Mapping[str, str], tier: Tier, axis: Axis) -> str:
    """Resistance in one tier against the axis, as SVG without identifiers.

    Args:
        rows: the defenses.
        keys: defense -> its letter.
        tier: the tier.
        axis: what is on x.
    """
    points, spots = [], []
    for row in rows:
        x, part = axis.value(row), row.resistance.get(tier)
        if x is None or part is None:
            continue
        kind = "unranked" if row.rank is None else "ranked"
        span = {"y": part.mean, "low": part.low, "high": part.high}
        points.append({"x": x, **span, "kind": kind, "family": family(row.defense)})
        spots.append((keys[row.defense], WIDTH * axis.at(x), HEIGHT * (1 - part.mean)))
    x_of = alt.X("x:Q", scale=axis.scale, title=axis.title, axis=alt.Axis(values=axis.ticks, labelExpr=axis.labels))
    y_of = alt.Y(
        "y:Q", scale=alt.Scale(domain=[0, 1]), title="resistance", axis=alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1])
    )
    kinds = ["ranked", "unranked"]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[f"var(--{kind})" for kind in kinds]), legend=None)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["circle", "diamond"]), legend=None)
    plot = alt.Chart(alt.Data(values=points))
    line = alt.Chart(alt.Data(values=[{"x": axis.rule}])).mark_rule(color="var(--muted)", strokeDash=[4, 3])
    layers: list[alt.Chart] = [line.encode(x=x_of)]
    if axis.connected:
        joined = plot.mark_line(color="var(--muted)", strokeWidth=1.2)
        layers.append(joined.encode(x=x_of, y=y_of, detail="family:N", order=alt.Order("x:Q")))
    layers += [
        plot.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=x_of, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        plot.mark_point(filled=True, size=55, opacity=1).encode(x=x_of, y=y_of, color=colour, shape=shape),
        alt.Chart(alt.Data(values=[vars(label) for label in place(spots, WIDTH, HEIGHT)]))
        .mark_text(color="var(--ink)", fontSize=11, fontWeight=600)
        .encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None), text="text:N"),
    ]
    chart = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=tier.value)
    return _svg(chart)


def _svg(chart: alt.TopLevelMixin) -> str:
    """SVG in the page's own colours."""
    styled = chart.configure(
        font=FONT,
        aria=False,  # the page names the figure, and its table has the numbers
        background="transparent",
        axis=alt.AxisConfig(
            labelColor="var(--muted)",
            titleColor="var(--ink)",
            domainColor="var(--line)",
            tickColor="var(--line)",
            gridColor="var(--grid)",
            titleFontWeight=500,
            labelFontSize=10,
            titleFontSize=11,
            labelOverlap=True,
            labelFlush=False,
        ),
        title=alt.TitleConfig(color="var(--ink)", anchor="start", fontSize=13, fontWeight=600),
        view=alt.ViewConfig(stroke="transparent"),
        padding=4,
    )
    return vl_convert.vegalite_to_svg(styled.to_dict())
