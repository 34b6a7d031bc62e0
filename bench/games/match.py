"""The one spelling of a match: tasks joined by ``+``."""

from __future__ import annotations

from collections.abc import Sequence

from mergearena.bench.errors import ArenaError, UnknownName


def parse_tasks(text: str, suite: str, tasks: Sequence[str]) -> tuple[str, ...]:
    """Read ``victim+donor+...`` or ``malicious+other+...``.

    Raises:
        ArenaError: a task is unknown or named twice, or there is but one.
    """
    names = tuple(name.strip() for name in text.split("+"))
    for name in names:
        if name not in tasks:
            raise UnknownName(f"match {text!r}: unknown task {name!r}; suite {suite} has: {', '.join(tasks)}")
    if len(names) < 2 or len({*names}) < len(names):
        raise ArenaError(f"match {text!r}: name two different tasks at least, as in {tasks[0]}+{tasks[1]}")
    return names
