"""What an executor is: where players run and results are judged.

Another one is one file: a class that takes a :class:`Setting` and does what :class:`Executor` says. What plays there,
in which order, which files it reads and what is recorded is the session's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mergearena.bench.games.base import Files, Job, Play
from mergearena.bench.players.roster import Roster
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.executors.result import Outcome

Watcher = Callable[[Job, tuple[int, int] | None], None]
"""Told how many of how many steps of a job are done, and None once its player has ended. Called from any thread."""


def unwatched(job: Job, steps: tuple[int, int] | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an executor is made with."""

    limits: Limits = field(default_factory=Limits)
    roster: Roster = field(default_factory=Roster)
    hidden: tuple[Path, ...] = ()
    """Files and folders that no player may read, beside the private ones of its suite."""
    jobs: int = 1
    """How many jobs it is given at a time, each by a thread of its own."""
    watcher: Watcher = unwatched


class Executor(Protocol):
    """Runs jobs. Made and closed in the main thread; its other methods are called from any thread."""

    def run(self, job: Job, files: Files, out: Path) -> Outcome:
        """Run a job's player under the limits; nobody judges what it returns.

        Args:
            job: what to run.
            files: what the player may read.
            out: an empty folder that the player may write to. What it returned is there, as ``Outcome.result`` says.

        Raises:
            Aborted: the executor was aborted.
        """

    def play(self, play: Play, given: Path | None, files: Files, out: Path) -> Outcome:
        """Run a play's player as :meth:`run` does, then let a judge, which no player's code reaches, score the result.

        Args:
            play: what to play.
            given: the whole result of the play that it starts from, for the judge.
            files: what the player may read.
            out: an empty folder that the player may write to.

        Raises:
            OSError: the disk is full, which is nobody's failure.
            Aborted: the executor was aborted.
        """

    def abort(self) -> None:
        """End every job under way, and start no other."""

    def close(self) -> None:
        """Free what it holds, once nothing is under way."""


Maker = Callable[[Setting], Executor]
"""Makes an executor, in the main thread."""
