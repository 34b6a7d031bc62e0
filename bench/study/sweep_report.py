"""A sweep's page: one chart per metric, a line per defense and attack, and the means as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
from markupsafe import Markup

from mergearena.bench.files.tables import write_parquet
from mergearena.bench.games.statistics import Interval
from mergearena.bench.study.charts import SHARE, svg
from mergearena.bench.study.pages import write_page
from mergearena.bench.study.sweep import PLACE, Row, means

LOGARITHMIC = 10.0
"""Ratio of the largest value to the smallest from which their axis is logarithmic."""
PAGE, TABLE = "sweep.html", "sweep.parquet"
COLOURS = ("#1f77b4", "#d9660a", "#2a9134", "#c2333b", "#8a63bf", "#8c564b", "#d463ae", "#71757a", "#9a9a1c", "#17a2b0")
"""Of the lines, in turn; each is told from paper and from ink."""


@dataclass(frozen=True)
class Curves:
    """One metric against the value, for every defense and attack."""

    title: str
    lines: Mapping[tuple[str, str], Mapping[str, Interval]]

    def chart(self, values: Sequence[str], colours: Mapping[tuple[str, str], str]) -> Markup:
        """The curves as SVG; the value is an axis of numbers if it is one, else of names."""
        numeric = all(map(_is_number, values))
        points = [
            {
                "x": float(value) if numeric else value,
                "mean": at.mean,
                "low": at.low,
                "high": at.high,
                "line": colours[line],
            }
            for line, here in self.lines.items()
            for value, at in here.items()
        ]
        data = alt.Chart(alt.Data(values=points))
        x = _axis([float(value) for value in values]) if numeric else alt.X("x:O", title=PLACE, sort=list(values))
        y = alt.Y("mean:Q", scale=alt.Scale(domain=[0, 1]), axis=SHARE, title=None)
        colour = alt.Color("line:N", scale=None)
        band = data.mark_area(opacity=0.15).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
        line = data.mark_line(point=True).encode(x=x, y=y, color=colour)
        return Markup(svg(alt.layer(band, line).properties(title=self.title)))


def curves_of(rows: Sequence[Row], metrics: Mapping[str, str]) -> list[Curves]:
    """The curves of every metric."""
    return [Curves(title, means(rows, metric)) for metric, title in metrics.items()]


def write(rows: Sequence[Row], curves: Sequence[Curves], values: Sequence[str], command: str, folder: Path) -> None:
    """Write rows as parquet, and the page.

    Raises:
        OSError: the disk is full or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(folder / TABLE, rows)
    lines = dict.fromkeys((row["defense"], row["attack"]) for row in rows)
    colours = {line: COLOURS[i % len(COLOURS)] for i, line in enumerate(lines)}
    write_page(
        folder / PAGE,
        "sweep.html.jinja",
        values=values,
        curves=curves,
        charts=[one.chart(values, colours) for one in curves],
        colours=colours,
        command=command,
    )


def _axis(numbers: Sequence[float]) -> alt.X:
    """An axis of numbers, ticks at the values; logarithmic where they span much."""
    wide = min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC
    scale = alt.Scale(type="log" if wide else "linear", zero=False, nice=False)
    return alt.X("x:Q", title=PLACE, scale=scale, axis=alt.Axis(values=list(numbers), format="~g"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
