"""Tables as parquet, and pages of HTML that need nothing else."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment

from bench.html import templates_in
from bench.records import write_text

TEMPLATES = Path(__file__).with_name("templates")


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as parquet, atomically.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), scratch)
        os.replace(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def write_page(path: Path, template: str, **shown: Any) -> None:
    """Fill a template and write it."""
    write_text(path, _templates().get_template(template).render(**shown))


@cache
def _templates() -> Environment:
    found = templates_in(TEMPLATES)
    found.filters |= {"percent": lambda share: f"{100 * share:.1f}"}
    return found
