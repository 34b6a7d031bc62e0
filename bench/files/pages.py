"""What the pages that this project writes have in common: how templates are read, and how their plots look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined


def templates_in(folder: Path, others: Mapping[str, Path] | None = None) -> Environment:
    """The templates of a folder, and of others as ``NAME/FILE``.

    What they are given is escaped, and what they are not given is an error.
    """
    named = {name: FileSystemLoader(path, encoding="utf-8") for name, path in (others or {}).items()}
    return Environment(
        loader=ChoiceLoader([FileSystemLoader(folder, encoding="utf-8"), PrefixLoader(named)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def styled(spec: dict[str, Any], font: str, background: str = "transparent", **axes: Any) -> dict[str, Any]:
    """A chart in the colours of the page that it stands on, which names it and has its numbers in a table.

    Args:
        spec: an Altair chart as a dictionary: configuring the chart itself would copy it with all its data.
        font: of all its texts, as in a style sheet.
        background: a colour.
        axes: what else its axes are to be, as in Vega-Lite's axis configuration.
    """
    looks = {
        "font": font,
        "aria": False,
        "background": background,
        "axis": {
            "labelColor": "var(--muted)",
            "titleColor": "var(--ink)",
            "domainColor": "var(--line)",
            "tickColor": "var(--line)",
            "gridColor": "var(--grid)",
            "titleFontWeight": 500,
            "labelOverlap": True,
            **axes,
        },
        "title": {"color": "var(--ink)", "anchor": "start", "fontSize": 13, "fontWeight": 600},
        "view": {**spec["config"]["view"], "stroke": "transparent"},
        "padding": 4,
    }
    return {**spec, "config": looks}
