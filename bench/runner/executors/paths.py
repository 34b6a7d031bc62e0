"""The import path of workers: neither the current directory nor a script's folder is on it.

A file there would otherwise take the place of a library's module of the same name, and change results unseen. What a
job needs that only the parent finds, such as the module of a suite of one's own, is named one by one, and comes last.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mergearena.bench import suites
from mergearena.bench.games.base import Job, Play


def needed(job: Job) -> tuple[str, ...]:
    """The entries of this process's path that a job's classes are imported from, the project's own aside."""
    objects: list[object] = [job, *([suites.get(job.protocol.suite)] if isinstance(job, Play) else ())]
    modules = {parent.__module__.partition(".")[0] for thing in objects for parent in type(thing).__mro__}
    return tuple(sorted({entry for module in modules - {"mergearena", "__main__"} for entry in _entry(module)}))


def _entry(module: str) -> Iterator[str]:
    """Where a top-level module was found; nothing for one that is built in."""
    imported = sys.modules[module]
    place = next(iter(getattr(imported, "__path__", ())), getattr(imported, "__file__", None))
    if place is not None:
        yield str(Path(place).absolute().parent)


def extend(entries: Iterable[str]) -> None:
    """Add entries that are not there to the end of this process's path."""
    sys.path += [entry for entry in entries if entry not in sys.path]


@contextmanager
def safe_start() -> Iterator[None]:
    """Python processes that are started in the block do not put their folder on their path."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
