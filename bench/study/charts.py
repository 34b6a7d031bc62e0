"""Charts as SVG without identifiers or scripts, in the colours of the page that they stand on."""

from __future__ import annotations

from typing import Any

import altair as alt
import vl_convert

from mergearena.bench.files.pages import styled

WIDTH, HEIGHT = 285, 210
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
SHARE = alt.Axis(format="~%", values=[0, 0.2, 0.4, 0.6, 0.8, 1])


def svg(chart: Any) -> str:
    """One chart of the usual size; its page names it and has its numbers in a table."""
    sized = chart.properties(width=WIDTH, height=HEIGHT)
    return vl_convert.vegalite_to_svg(styled(sized.to_dict(), FONT))
