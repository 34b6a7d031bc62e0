"""The local executor: a fork server with torch loaded, a fresh process per play, a judge per slot.

A player gets a process forked from the clean server in which no other player ever ran, so nothing it does to its
interpreter outlives it; forking costs milliseconds where starting Python and torch costs seconds. Judges run only
our code: they persist and keep the test splits in memory.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from mergearena.bench.games.base import Files, Job, Play
from mergearena.bench.runner.confinement import watch
from mergearena.bench.runner.executors import paths, progress, result
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.executors.limits import Aborted, Refusal
from mergearena.bench.runner.executors.result import Outcome, failure
from mergearena.bench.runner.provenance import Code

ROOM = 2**20
"""Bytes of free disk under which a failure is blamed on the disk."""
PEEK = 0.5
"""Seconds between two looks at how far a player is."""


class Local:
    """An :class:`~mergearena.bench.runner.executors.executor.Executor` of this machine's processes."""

    def __init__(self, setting: Setting) -> None:
        # Players work in folders of their own.
        plugins = tuple(path.absolute() for path in setting.roster.plugins)
        hidden = tuple(path.absolute() for path in setting.hidden)
        setting = replace(setting, roster=replace(setting.roster, plugins=plugins), hidden=hidden)
        self._slots = [_Slot(setting) for _ in range(setting.jobs)]
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    @contextmanager
    def _slot(self) -> Iterator[_Slot]:
        """A slot that nobody else uses in the block."""
        slot = self._free.get()
        try:
            yield slot
        finally:
            self._free.put(slot)

    def run(self, job: Job, files: Files, out: Path) -> Outcome:
        """Run a job's player in a new process."""
        with self._slot() as slot:
            return slot.run(job, files, out)

    def play(self, play: Play, given: Path | None, files: Files, out: Path) -> Outcome:
        """Run a play's player in a new process, then let the slot's judge score the result."""
        with self._slot() as slot:
            return slot.play(play, given, files, out)

    def abort(self) -> None:
        """End players and judges for good."""
        for slot in self._slots:
            slot.abort()

    def close(self) -> None:
        """End the judges."""
        for slot in self._slots:
            slot.close()


class _Slot:
    """Runs one job at a time.

    Made in the main thread: on Linux the processes of a slot end with the thread that starts the first one.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["mergearena.bench.runner.executors.fork_server", "mergearena.bench.runner.executors.worker"]
        )
        with paths.safe_start():
            forkserver.ensure_running()
        self._judge: tuple[BaseProcess, Connection] | None = None
        self._player: BaseProcess | None = None
        self._aborted = False
        self._starting = threading.Lock()

    def play(self, play: Play, given: Path | None, files: Files, out: Path) -> Outcome:
        """Run and judge one play."""
        outcome = self.run(play, files, out)
        if outcome.status != "ok" and shutil.disk_usage(out).free < ROOM:
            raise OSError(errno.ENOSPC, "the disk is full; free some space and run the same command again", str(out))
        if outcome.result is None:
            return outcome
        try:
            judged = self._ask_judge(play, outcome.result, given)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            if self._aborted:
                raise Aborted from None
            self._judge = None
            return failure("crashed", "the judge's process died while evaluating; is the machine out of memory?")
        if isinstance(judged, Refusal):
            return failure("failed" if judged.foreseen else "crashed", judged.reason, judged.error)
        return replace(outcome, fields={**outcome.fields, **judged})

    def run(self, job: Job, files: Files, out: Path) -> Outcome:
        """Run one player."""
        code = Code.of(job) if isinstance(job, Play) else Code({}, ())
        # Pickled here, since what is in it can be imported only once the worker's path is extended.
        work = pickle.dumps((job.sent(), files, self._setting.roster.plugins, self._setting.hidden, code))
        arguments = (out, self._setting.limits, paths.needed(job), work)
        process = self._context.Process(target=_play, args=arguments, daemon=True)
        self._player = process
        self._start(process)
        excess = self._wait(process, job, out)
        timed_out = process.is_alive()
        _kill_group(process)
        process.join()
        if self._aborted:
            raise Aborted
        if excess is not None:
            return failure("failed", excess)
        if timed_out:
            return failure("timeout", f"did not finish within {self._setting.limits.seconds:g} s")
        told = result.read(out, job.facts)
        return told or failure("crashed", f"its process ended without a result ({_exit(process.exitcode)})")

    def _wait(self, process: BaseProcess, job: Job, out: Path) -> str | None:
        """Wait for the player's end or for its time to run out, telling the watcher how far it is.

        Returns:
            What the player has more of than it may, as soon as it does.
        """
        limits = self._setting.limits
        deadline = time.monotonic() + limits.seconds
        told = excess = None
        while excess is None and process.is_alive() and (left := deadline - time.monotonic()) > 0:
            process.join(min(left, PEEK))
            excess = watch.excess(process.pid, out, limits.threads, limits.memory_gib)
            steps = progress.read(out)
            if steps != told:
                told = steps
                self._setting.watcher(job, steps)
        if told is not None:
            self._setting.watcher(job, None)
        return excess

    def _start(self, process: BaseProcess) -> None:
        """Start a process, but none after an abort, which would not see it."""
        with self._starting:
            if self._aborted:
                raise Aborted
            process.start()

    def abort(self) -> None:
        """End player and judge, if any, for good; called from another thread than the one that plays."""
        with self._starting:
            self._aborted = True
            for process in (self._player, self._judge[0] if self._judge else None):
                if process is not None and process.is_alive():
                    _kill_group(process)

    def _ask_judge(self, play: Play, result: Path, given: Path | None) -> dict[str, Any] | Refusal:
        if self._judge is None:
            ours, theirs = self._context.Pipe()
            arguments = (theirs, self._setting.limits.threads, self._setting.roster.declared)
            process = self._context.Process(target=_judge, args=arguments, daemon=True)
            self._judge = process, ours
            self._start(process)
            theirs.close()
        _, connection = self._judge
        connection.send((paths.needed(play), pickle.dumps((play, result, given))))
        reply: dict[str, Any] | Refusal = connection.recv()
        return reply

    def close(self) -> None:
        """End the judge."""
        if self._judge is not None:
            process, connection = self._judge
            connection.close()
            process.join(5)
            if process.is_alive():
                process.kill()


def _play(*arguments: Any) -> None:
    from mergearena.bench.runner.executors import worker

    worker.play(*arguments)


def _judge(*arguments: Any) -> None:
    from mergearena.bench.runner.executors import worker

    worker.judge(*arguments)


def _kill_group(process: BaseProcess) -> None:
    """End the player and whatever it started."""
    if process.pid is None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
