"""The local executor: a fork server with torch loaded, a fresh process per play, a judge per slot.

A player gets a process forked from the clean server in which no other player ever ran, so nothing it does to its
interpreter outlives it; forking costs milliseconds where starting Python and torch costs seconds. Judges run only
our code: they persist and keep the test splits in memory.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench.cost import Cost
from bench.executors import progress
from bench.games.base import Play
from bench.records import Status

ROOM = 2**20
"""Bytes of free disk under which a failure is blamed on the disk."""
PEEK = 0.5
"""Seconds between two looks at how far a player is."""

Watcher = Callable[[Play, tuple[int, int] | None], None]
"""Told how many of how many steps of a play are done, and None once its player has ended. Called from any thread."""


@dataclass(frozen=True)
class Limits:
    """What a player's process may use."""

    seconds: float = 600.0
    memory_gib: float = 4.0
    threads: int = 1
    plugins: tuple[Path, ...] = ()
    """Files that register players beyond the installed ones."""


@dataclass(frozen=True)
class Outcome:
    """What came of a play."""

    status: Status
    reason: str | None
    fields: Mapping[str, Any]
    """Fields of the record: cost, and where the play succeeded accuracy and the like."""
    result: Path | None
    """What the player returned; whoever wants to keep it moves it."""


class Slot:
    """Runs one play at a time: its player in a new process, then its judge."""

    def __init__(self, limits: Limits, watcher: Watcher) -> None:
        self._limits = limits
        self._watcher = watcher
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["bench.executors.worker"])
        self._judge: tuple[BaseProcess, Connection] | None = None
        self._player: BaseProcess | None = None

    def play(self, play: Play, given: Path | None, examples: Mapping[str, Path], out: Path) -> Outcome:
        """Run and judge one play; ``out`` is an empty folder that the player may write to.

        Raises:
            OSError: the disk is full, which is nobody's failure.
        """
        outcome = self._run_player(play, given, examples, out)
        if outcome.status != "ok" and shutil.disk_usage(out).free < ROOM:
            raise OSError(errno.ENOSPC, "the disk is full; free some space and run the same command again", str(out))
        if outcome.result is None:
            return outcome
        try:
            judged = self._ask_judge(play, outcome.result, given)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._judge = None
            return failure("crashed", "the judge's process died while evaluating; is the machine out of memory?")
        return replace(outcome, fields={**outcome.fields, **judged})

    def _run_player(self, play: Play, given: Path | None, examples: Mapping[str, Path], out: Path) -> Outcome:
        process = self._context.Process(
            target=_play, args=(play, given, dict(examples), out, self._limits), daemon=True
        )
        self._player = process
        process.start()
        self._wait(process, play, out)
        timed_out = process.is_alive()
        _kill_group(process)
        result = out / "result.json"
        if timed_out:
            return failure("timeout", f"did not finish within {self._limits.seconds:g} s")
        if not result.exists():
            return failure("crashed", f"its process ended without a result ({_exit(process.exitcode)})")
        played = json.loads(result.read_text(encoding="utf-8"))
        if played["status"] != "ok":
            return failure(played["status"], played["reason"])
        fields = {**played["fields"], "cost": Cost(**played["cost"]), "warnings": played["warnings"]}
        return Outcome("ok", None, fields, out / "result.safetensors")

    def _wait(self, process: BaseProcess, play: Play, out: Path) -> None:
        """Wait for the player's end or for its time to run out, telling the watcher how far it is."""
        deadline = time.monotonic() + self._limits.seconds
        told = None
        while process.is_alive() and (left := deadline - time.monotonic()) > 0:
            process.join(min(left, PEEK))
            steps = progress.read(out)
            if steps != told:
                told = steps
                self._watcher(play, steps)
        if told is not None:
            self._watcher(play, None)

    def abort(self) -> None:
        """End the player under way, if any."""
        if self._player is not None and self._player.is_alive():
            _kill_group(self._player)

    def _ask_judge(self, play: Play, result: Path, given: Path | None) -> dict[str, Any]:
        if self._judge is None:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_judge, args=(theirs, self._limits), daemon=True)
            process.start()
            theirs.close()
            self._judge = process, ours
        _, connection = self._judge
        connection.send((play, result, given))
        reply = connection.recv()
        if isinstance(reply, Exception):
            raise reply
        return dict(reply)

    def close(self) -> None:
        """End the judge."""
        if self._judge is not None:
            process, connection = self._judge
            connection.close()
            process.join(5)
            if process.is_alive():
                process.kill()


def _play(*arguments: Any) -> None:
    from bench.executors import worker

    worker.play(*arguments)


def _judge(*arguments: Any) -> None:
    from bench.executors import worker

    worker.judge(*arguments)


def failure(status: Status, reason: str) -> Outcome:
    """An outcome without a result."""
    return Outcome(status, reason, {"cost": Cost(), "evaluation_cost": Cost()}, None)


def _kill_group(process: BaseProcess) -> None:
    """End the player and whatever it started."""
    if process.pid is None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.join()


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def scratch_folder(parent: Path) -> Path:
    """A new empty folder below ``parent``."""
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=parent))


def remove(folder: Path) -> None:
    """Delete a folder and what is in it, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)
