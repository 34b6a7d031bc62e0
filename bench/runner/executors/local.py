"""The local executor: a fork server with torch loaded, a fresh process per play, a judge per slot.

A player gets a process forked from the clean server in which no other player ever ran, so nothing it does to its
interpreter outlives it; forking costs milliseconds where starting Python and torch costs seconds. Judges run only
our code: they persist and keep the test splits in memory.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mergearena.bench.games.base import Files, Job, Play
from mergearena.bench.runner.executors import progress, result
from mergearena.bench.runner.executors.limits import Aborted, Limits, Refusal, Watcher
from mergearena.bench.runner.executors.result import Outcome, failure

ROOM = 2**20
"""Bytes of free disk under which a failure is blamed on the disk."""
PEEK = 0.5
"""Seconds between two looks at how far a player is."""


class Slot:
    """Runs one play at a time: its player in a new process, then its judge.

    Made in the main thread: on Linux the processes of a slot end with the thread that starts the first one.
    """

    def __init__(self, limits: Limits, watcher: Watcher) -> None:
        # Players work in folders of their own.
        plugins, hidden = (tuple(p.absolute() for p in paths) for paths in (limits.plugins, limits.hidden))
        self._limits = replace(limits, plugins=plugins, hidden=hidden)
        self._watcher = watcher
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["mergearena.bench.runner.executors.fork_server", "mergearena.bench.runner.executors.worker"]
        )
        forkserver.ensure_running()
        self._judge: tuple[BaseProcess, Connection] | None = None
        self._player: BaseProcess | None = None
        self._aborted = False
        self._starting = threading.Lock()

    def play(self, play: Play, given: Path | None, files: Files, out: Path) -> Outcome:
        """Run and judge one play.

        Args:
            play: what to play.
            given: the whole result of the play that it starts from, for the judge.
            files: what the player may read.
            out: an empty folder that the player may write to.

        Raises:
            OSError: the disk is full, which is nobody's failure.
            Aborted: the slot was aborted.
        """
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
        """Run one player; nobody judges what it returns.

        Raises:
            Aborted: the slot was aborted.
        """
        process = self._context.Process(target=_play, args=(job.shown(), files, out, self._limits), daemon=True)
        self._player = process
        self._start(process)
        self._wait(process, job, out)
        timed_out = process.is_alive()
        _kill_group(process)
        process.join()
        if self._aborted:
            raise Aborted
        if timed_out:
            return failure("timeout", f"did not finish within {self._limits.seconds:g} s")
        told = result.read(out, job.facts)
        return told or failure("crashed", f"its process ended without a result ({_exit(process.exitcode)})")

    def _wait(self, process: BaseProcess, job: Job, out: Path) -> None:
        """Wait for the player's end or for its time to run out, telling the watcher how far it is."""
        deadline = time.monotonic() + self._limits.seconds
        told = None
        while process.is_alive() and (left := deadline - time.monotonic()) > 0:
            process.join(min(left, PEEK))
            steps = progress.read(out)
            if steps != told:
                told = steps
                self._watcher(job, steps)
        if told is not None:
            self._watcher(job, None)

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
            process = self._context.Process(target=_judge, args=(theirs, self._limits), daemon=True)
            self._judge = process, ours
            self._start(process)
            theirs.close()
        _, connection = self._judge
        connection.send((play, result, given))
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
