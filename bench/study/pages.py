"""The pages of studies and sweeps."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from mergearena.bench.files.atomic import write_text
from mergearena.bench.files.pages import templates_in

TEMPLATES = Path(__file__).with_name("templates")


def write_page(path: Path, template: str, **shown: Any) -> None:
    """Fill a template and write it."""
    write_text(path, _templates().get_template(template).render(**shown))


@cache
def _templates() -> Environment:
    found = templates_in(TEMPLATES)
    found.filters |= {"percent": lambda share: f"{100 * share:.1f}"}
    return found
