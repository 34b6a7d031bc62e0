"""Plots that stand alone, with what their letters stand for."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
from altair.utils.schemapi import debug_mode

_LINE = 15
"""Pixels from one name to the next."""

Named = Sequence[tuple[str, str]]
"""Letters and what they stand for."""


def with_names(panels: Sequence[alt.LayerChart], names: Named, columns: int) -> alt.VConcatChart:
    """Panels side by side, and below them what their letters stand for, in so many columns."""
    with debug_mode(False):
        width = sum(int(panel.width) + 60 for panel in panels)
        rows = -(-len(names) // columns)
        spots = [(place // rows * width // columns, place % rows * _LINE) for place in range(len(names))]
        values = [
            {"letter": letter, "name": name, "x": x, "y": y}
            for (letter, name), (x, y) in zip(names, spots, strict=True)
        ]
        text = alt.Chart(alt.Data(values=values)).encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None))
        letters = text.mark_text(align="left", color="var(--ink)", fontSize=11, fontWeight=600).encode(text="letter:N")
        spelled = text.mark_text(align="left", color="var(--ink)", fontSize=11, dx=22).encode(text="name:N")
        legend = alt.LayerChart(layer=[letters, spelled], width=width, height=rows * _LINE)
        return alt.VConcatChart(vconcat=[alt.HConcatChart(hconcat=list(panels)), legend], spacing=20)
