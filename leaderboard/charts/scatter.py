"""One small scatter plot, as SVG in the page's own colours or as a PNG on light paper.

Panels are small enough to be read on a phone and to stand side by side elsewhere. Points carry letters, as rows of
the tables do: spellings are too long to stand in a plot. Nothing is clipped, since clip paths get identifiers that
count up within a process, and the same board must give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from altair.utils.schemapi import debug_mode

from mergearena.bench.files.pages import styled
from mergearena.leaderboard.charts.labels import place
from mergearena.leaderboard.charts.palette import light

WIDTH, HEIGHT = 300, 240
FONT = "Roboto, Helvetica Neue, Arial, sans-serif"

KINDS = {
    "ranked": ("var(--ranked)", "var(--ranked)", "circle"),
    "unranked": ("var(--unranked)", "var(--unranked)", "diamond"),
    "partly": ("var(--paper)", "var(--ranked)", "circle"),
}
"""Kind of a point -> fill, outline and shape."""


_LETTERS: dict[str, Any] = {"fontSize": 11, "fontWeight": 600}
_ROLES = re.compile(r' (?:role|aria-\w+)="[^"]*"')


@dataclass(frozen=True)
class Axis:
    """One axis of a plot."""

    title: str
    scale: alt.Scale
    at: Callable[[float], float]
    """Value -> share of the panel's width or height."""
    end: float
    """The greatest value that it holds."""
    ticks: Sequence[float]
    labels: str
    """Vega expression of a tick's label."""
    rules: Sequence[float] = ()
    """Where to draw dashed lines."""


@dataclass(frozen=True)
class Point:
    """One point of a plot."""

    letter: str
    """Empty: not labelled."""
    x: float
    y: float
    kind: str
    """One of :data:`KINDS`."""
    low: float | None = None
    """Of the interval around y, if there is one."""
    high: float | None = None
    family: str = ""
    """Points of one family are joined by a line, in the order of x; those without stand alone."""


def panel(
    title: str, points: Sequence[Point], x: Axis, y: Axis, front: Sequence[tuple[float, float]] = ()
) -> alt.LayerChart:
    """The plot of some points.

    Args:
        title: its heading.
        points: what is drawn, the first at the bottom.
        x: the horizontal axis.
        y: the vertical axis.
        front: the corners of a staircase, from the left.
    """
    with debug_mode(False):  # Altair's checks take longer than the drawing; the tests make them
        x_of = alt.X("x:Q", scale=x.scale, title=x.title, axis=alt.Axis(values=x.ticks, labelExpr=x.labels))
        y_of = alt.Y("y:Q", scale=y.scale, title=y.title, axis=alt.Axis(values=y.ticks, labelExpr=y.labels))
        dashed: dict[str, Any] = {"color": "var(--muted)", "strokeDash": [4, 3]}
        layers: list[alt.Chart] = [_data([{"x": value}]).mark_rule(**dashed).encode(x=x_of) for value in x.rules]
        layers += [_data([{"y": value}]).mark_rule(**dashed).encode(y=y_of) for value in y.rules]
        stairs = _data([{"x": at, "y": height} for at, height in front])
        layers.append(
            stairs.mark_line(color="var(--front)", strokeWidth=1.6, interpolate="step-after").encode(x=x_of, y=y_of)
        )
        joined = _data([vars(point) for point in points if point.family])
        lines = joined.mark_line(color="var(--muted)", strokeWidth=1.2)
        layers.append(lines.encode(x=x_of, y=y_of, detail="family:N", order=alt.Order("x:Q")))
        fill, stroke, shape = (_by_kind(number) for number in range(3))
        spans = _data([vars(point) for point in points if point.low is not None])
        bars = spans.mark_rule(strokeWidth=1.5, opacity=0.6)
        layers.append(bars.encode(x=x_of, y=alt.Y("low:Q"), y2="high:Q", stroke=alt.Stroke("kind:N", **stroke)))
        dots = _data([vars(point) for point in points]).mark_point(size=55, opacity=1, strokeWidth=1.4)
        layers.append(
            dots.encode(
                x=x_of,
                y=y_of,
                fill=alt.Fill("kind:N", **fill),
                stroke=alt.Stroke("kind:N", **stroke),
                shape=alt.Shape("kind:N", **shape),
            )
        )
        spots = [(p.letter, WIDTH * x.at(p.x), HEIGHT * (1 - y.at(p.y))) for p in points if p.letter]
        letters = _data([vars(label) for label in place(spots, WIDTH, HEIGHT)])
        letters = letters.encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None), text="text:N")
        halo: dict[str, Any] = {"stroke": "var(--paper)", "strokeWidth": 3, "strokeJoin": "round"}
        layers += [letters.mark_text(**halo, **_LETTERS), letters.mark_text(color="var(--ink)", **_LETTERS)]
        return alt.LayerChart(layer=layers, width=WIDTH, height=HEIGHT, title=title)


def _data(values: list[Any]) -> alt.Chart:
    return alt.Chart(alt.Data(values=tuple(values)))  # Altair copies lists at every step, tuples never


def _by_kind(number: int) -> dict[str, Any]:
    values = [looks[number] for looks in KINDS.values()]
    return {"scale": alt.Scale(domain=list(KINDS), range=values), "legend": None}


def specification(chart: alt.TopLevelMixin, background: str = "transparent") -> str:
    """A chart in the page's style, as Vega-Lite JSON."""
    with debug_mode(False):
        spec = chart.to_dict(validate=False)
    drawn = styled(spec, FONT, background, labelFontSize=10, titleFontSize=11, labelFlush=False)
    return json.dumps(drawn, sort_keys=True)


def to_svg(chart: alt.TopLevelMixin) -> str:
    """Inline SVG, without identifiers, and without roles of its parts: the page gives the whole one."""
    return _ROLES.sub("", vl_convert.vegalite_to_svg(specification(chart)))


def to_png(spec: str) -> bytes:
    """The picture of a specification, at twice the size, on light paper."""
    return vl_convert.vegalite_to_png(light(spec), scale=2)
