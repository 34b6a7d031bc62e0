"""An executor at work: it is handed the files that a play reads, and what it leaves is kept or cleared away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mergearena.bench.games.base import Files, Job, Play
from mergearena.bench.runner import executors
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.executors.result import Outcome
from mergearena.bench.runner.scratch import remove, scratch_folder
from mergearena.bench.runner.store import Store


class Workplace:
    """An executor and the files of its plays, below one folder.

    Args:
        folder: where files are made.
        setting: what the executor is made with.
        executor: its name.

    Raises:
        UnknownName: there is no such executor.
    """

    def __init__(self, folder: Path, setting: Setting, executor: str = executors.LOCAL) -> None:
        self.store = Store(folder.absolute())
        self._executor = executors.get(executor)(setting)

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.close()

    def abort(self) -> None:
        """End what is under way; nothing else starts."""
        self._executor.abort()

    @contextmanager
    def run(self, job: Job) -> Iterator[Outcome]:
        """Run a job that reads no files; what it returned is there until the block ends."""
        out = scratch_folder(self.store.folder)
        try:
            yield self._executor.run(job, Files(), out)
        finally:
            remove(out)

    @contextmanager
    def play(self, play: Play) -> Iterator[Outcome]:
        """Run and judge a play; what its player returned is there until the block ends."""
        out = scratch_folder(self.store.folder)
        try:
            yield self._executor.play(play, self.store.given(play), self.store.files(play), out)
        finally:
            remove(out)
