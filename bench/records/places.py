"""Where a record's file is."""

from __future__ import annotations

import re
from pathlib import Path

from mergearena.bench.records.record import Record

DIGITS = 12
"""Of an id, in a file's name."""


def path_of(record: Record, root: Path) -> Path:
    """Where a record lives: readable folders, and the first digits of the id to keep names apart."""
    *folders, what = map(slug, record.place)
    return root.joinpath(slug(record.suite), *folders, f"{what}.s{record.seed}.{record.id[:DIGITS]}.json")


def slug(spelling: str, most: int = 80) -> str:
    """A spelling as part of a path."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", spelling).strip("_")[:most]


def files(root: Path) -> list[Path]:
    """The record files below a folder; hidden files and folders hold scratch."""
    paths = (p for p in root.rglob("*.json") if not any(part.startswith(".") for part in p.relative_to(root).parts))
    return sorted(paths)
