"""The runs of one submitted player on toys, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.games.base import Play
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.executors.result import Outcome
from mergearena.bench.runner.workplace import Workplace
from mergearena.bench.submit import toys
from mergearena.bench.submit.entry import Entry
from mergearena.bench.submit.trial import model_of

TOYS = Limits(seconds=30.0, memory_gib=2.0)
"""What a player may use on a toy, where an honest one takes a second."""
KEY = "check"
REFUSED = ("ArenaError", "UnsupportedArchitecture")
"""Errors by which a player says that it does not apply to a model."""


@dataclass
class Runs:
    """What a player did: (family, run) -> outcome, and the model it returned where it returned one."""

    entry: Entry[Any]
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    prints: dict[tuple[str, str], str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Family -> why the player says that it does not apply there."""

    @property
    def family(self) -> str:
        """The first family on which it finished."""
        return next(family for (family, _), outcome in self.outcomes.items() if outcome.status == "ok")

    def failing(self, *errors: str, statuses: tuple[str, ...] = ()) -> tuple[str, str] | None:
        """(family, reason) of the first outcome that ended in one of these ways."""
        for (family, _), outcome in self.outcomes.items():
            if outcome.error in errors or outcome.status in statuses:
                return family, outcome.reason or ""
        return None

    @property
    def all_finished(self) -> bool:
        """Whether it ran, and every run gave a model."""
        return bool(self.outcomes) and all(outcome.status == "ok" for outcome in self.outcomes.values())

    def set_refusals_apart(self) -> None:
        """What acts on one kind of layer may say, by an ArenaError, that a model has none; if it runs on some model."""
        if not any(outcome.status == "ok" for outcome in self.outcomes.values()):
            return
        for where, outcome in list(self.outcomes.items()):
            if outcome.error in REFUSED:
                self.refused[where[0]] = outcome.reason or ""
                del self.outcomes[where]


def paces(place: Workplace, entry: Entry[Any], families: Iterable[str] = tuple(toys.FAMILIES)) -> Runs:
    """Play on every family's toy; then, where it finished everywhere, again, with another seed, and, if it merges,
    with each model exchanged for another.
    """
    found = Runs(entry)
    for family in families:
        _play(place, found, family, "first")
        if found.failing(statuses=("timeout", "crashed", "memory")):
            break
    found.set_refusals_apart()
    if found.all_finished:
        _play(place, found, found.family, "again")
        _play(place, found, found.family, "other seed", key="another key", seed=1)
        for task in toys.TASKS if entry.merges else ():
            _play(place, found, found.family, f"another {task}", exchanged=task)
    return found


def _play(
    place: Workplace, runs: Runs, family: str, run: str, key: str = KEY, seed: int = 0, exchanged: str = ""
) -> None:
    """Play on one family's toy."""
    play = runs.entry.trial(family, key, seed, exchanged)
    if play.needs is not None:  # an attack meets the victim as it is
        victim = model_of(suites.get(play.protocol.suite), play.tasks[0], exchanged)
        checkpoints.save(victim, place.store.result(play.needs.id))
    runs.outcomes[family, run], runs.prints[family, run] = once(place, play)


def once(place: Workplace, play: Play) -> tuple[Outcome, str]:
    """Play, and the fingerprint of what was returned."""
    with place.play(play) as outcome:
        returned = {} if outcome.result is None else checkpoints.load(outcome.result, dtype=None)
        return outcome, checkpoints.fingerprint(returned)
