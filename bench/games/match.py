"""The one spelling of a match: tasks joined by ``+``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mergearena.bench.errors import ArenaError, UnknownName

_JOINT = "+"


def spell(tasks: Iterable[str]) -> str:
    """The spelling of a match of these tasks, as on the command line: ``victim+donor+...``, ``malicious+other+...``."""
    return _JOINT.join(tasks)


def parse_tasks(text: str, suite: str, tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks of a match: the reverse of :func:`spell`.

    Args:
        text: the spelling; spaces around a task do not count.
        suite: its name, for messages.
        tasks: those of the suite.

    Raises:
        ArenaError: a task is unknown or named twice, or there is but one.
    """
    names = tuple(name.strip() for name in text.split(_JOINT))
    for name in names:
        if name not in tasks:
            raise UnknownName(f"match {text!r}: unknown task {name!r}; suite {suite} has: {', '.join(tasks)}")
    if len(names) < 2 or len({*names}) < len(names):
        raise ArenaError(f"match {text!r}: name two different tasks at least, as in {spell(tasks[:2])}")
    return names
