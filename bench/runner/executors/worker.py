"""What runs in the child processes of the local executor: players, one process per play, and judges.

This module is preloaded by the fork server, so that a new process starts with torch already imported.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError, ArenaWarning
from mergearena.bench.files import checkpoints
from mergearena.bench.games.metering import metered
from mergearena.bench.players.code import read_sources
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stand_in import Declaration, stand_in
from mergearena.bench.runner.confinement.confine import LARGEST_FILE, Fence, allow_result, confine, warm_up
from mergearena.bench.runner.executors import paths, progress
from mergearena.bench.runner.executors.lifeline import die_with_parent
from mergearena.bench.runner.executors.limits import Limits, Refusal
from mergearena.bench.runner.executors.result import LONGEST_REASON, RESULT, TENSORS


def _warm_up() -> None:
    """Import, once in the fork server, what plays would otherwise import each: seconds saved on every play.

    One thread only: a fork that inherits a thread pool deadlocks.
    """
    torch.set_num_threads(1)
    # mergearena.bench.cli.main because a child imports its parent's main module.
    for name in ("open_clip", "transformers", "datasets", "pyarrow.parquet", "mergearena.bench.cli.main"):
        import_module(name)
    registry.load()
    warm_up()
    read_sources()  # as they were just imported: what is edited from now on is not what plays
    weight = torch.zeros(1, requires_grad=True)
    with metered():  # the meter and optimizers import half of torch when first used
        optimizer = torch.optim.AdamW([weight])
        weight.sum().backward()
        optimizer.step()


_warm_up()

_BARRED = (
    "A player writes to its working folder alone, starts no processes, opens no sockets, and reads no data pack, "
    "model or record but through its view"
)


def play(out: Path, limits: Limits, entries: Sequence[str], work: bytes) -> None:
    """Run one player and leave its result in ``out``, which is its working folder.

    Exits 0 with a result or with why there is none; anything else is a crash.

    Args:
        out: an empty folder.
        limits: what the player may use.
        entries: what the import path is to be extended by.
        work: the pickled job, its files, files that register players, hidden files, and the code that is planned with.
    """
    os.setsid()
    die_with_parent()
    _silence(out / "log.txt")
    _enter(out)
    tell = progress.Writer(out)
    try:
        paths.extend(entries)
        job, files, plugins, hidden, code = pickle.loads(work)  # from the run's own process
        suite = job.suite(files)
        hidden = (*suites.private(), *suite.private, *hidden)
        confine(Fence(hidden, readable=(*files.paths, *plugins), own=out), limits.memory_gib, limits.threads)
        torch.set_num_threads(limits.threads)  # only now: what is given up is given up by a single thread
        imported = {path: code.identities(path) for path in plugins}
        for path in plugins:
            load_plugin(path)
        code.require(imported)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ArenaWarning)
            played = job.run(suite, files, tell)
        allow_result()
        checkpoints.save(played.tensors, out / TENSORS)
        told: dict[str, Any] = {
            "status": "ok",
            "cost": played.cost.model_dump(),
            "facts": played.facts.model_dump(mode="json"),
            "warnings": list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, ArenaWarning))),
        }
    except Exception as error:  # noqa: BLE001 - a player may raise anything; it becomes a recorded failure
        with suppress(OSError):  # the log may be full
            traceback.print_exc()
        told = _failed(error, limits)
    (out / RESULT).write_text(json.dumps(told), encoding="utf-8")


def _failed(error: Exception, limits: Limits) -> dict[str, Any]:
    """What to tell of an exception."""
    text = _line(error)
    behind = error if error.__cause__ is None else error.__cause__  # what an import raised, say
    number = behind.errno if isinstance(behind, OSError) else None
    if isinstance(error, MemoryError) or "allocate memory" in text or "alloc_cpu" in text:
        return {"status": "memory", "reason": f"ran out of its {limits.memory_gib:g} GiB of memory: {text}"}
    if not isinstance(error, ArenaError):
        text = f"{type(error).__name__}: {text}"
    if number in (errno.EPERM, errno.EACCES, errno.EROFS):
        text = f"{text}. {_BARRED}"
    if number == errno.EFBIG:
        text = f"{text}. A player's files, what it prints included, have at most {LARGEST_FILE >> 20} MiB each"
    return {"status": "failed", "reason": text[:LONGEST_REASON], "error": type(error).__name__[:100]}


def judge(connection: Connection, threads: int, declared: Sequence[Declaration]) -> None:
    """Serve (path entries, pickled play, result, given) until the connection closes; replies are a record's fields."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    die_with_parent()
    torch.set_num_threads(threads)
    for declaration in declared:
        stand_in(declaration)
    while True:
        try:
            entries, work = connection.recv()
        except EOFError:
            return
        try:
            paths.extend(entries)
            play, result, given = pickle.loads(work)  # from the run's own process
            connection.send(play.judge(result, given))
        except Exception as error:  # noqa: BLE001 - whatever a strange result leads to, the next one is judged
            foreseen = isinstance(error, ArenaError)
            reason = _line(error) if foreseen else f"could not be evaluated: {type(error).__name__}: {_line(error)}"
            connection.send(Refusal(reason, type(error).__name__, foreseen))


def _silence(log: Path) -> None:
    """Send the player's output to a log, so that it cannot garble the board."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)


def _enter(folder: Path) -> None:
    """Work in a folder: files named without one, and temporary ones, end up there."""
    os.chdir(folder)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    sys.dont_write_bytecode = True


def _line(error: BaseException) -> str:
    """The first line of an error's message; the whole of it is in the log."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
