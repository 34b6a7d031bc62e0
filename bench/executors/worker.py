"""What runs in the child processes of the local executor: players, one process per play, and judges.

This module is preloaded by the fork server, so that a new process starts with torch already imported.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
import warnings
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import bench._torchvision  # noqa: F401  (before anything that imports torchvision)
from bench import checkpoints, registry
from bench.cost import metered
from bench.errors import ArenaError, ArenaWarning
from bench.executors import progress
from bench.executors.local import Limits
from bench.games.base import Play


def _warm_up() -> None:
    """Import, once in the fork server, what plays would otherwise import each: seconds saved on every play.

    One thread only: a fork that inherits a thread pool deadlocks.
    """
    torch.set_num_threads(1)
    # bench.cli because a child imports its parent's main module.
    for name in ("open_clip", "transformers", "datasets", "pyarrow.parquet", "bench.cli"):
        import_module(name)
    registry.load()
    weight = torch.zeros(1, requires_grad=True)
    with metered():  # the meter and optimizers import half of torch when first used
        optimizer = torch.optim.AdamW([weight])
        weight.sum().backward()
        optimizer.step()


_warm_up()

GIB = 2**30
_PR_SET_PDEATHSIG = 1


def play(play: Play, given: Path | None, examples: dict[str, Path], out: Path, limits: Limits) -> None:
    """Run one player and leave ``result.safetensors`` and ``result.json`` in ``out``.

    Exits 0 with a result or with ``{"status": "failed" | "memory", "reason": ...}``; anything else is a crash.
    """
    os.setsid()
    _die_with_parent()
    _silence(out / "log.txt")
    _limit_memory(limits.memory_gib)
    torch.set_num_threads(limits.threads)
    tell = progress.Writer(out)
    try:
        for path in limits.plugins:
            registry.load_plugin(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ArenaWarning)
            played = play.run(given, examples, tell)
        checkpoints.save(played.tensors, out / "result.safetensors")
        result: dict[str, Any] = {
            "status": "ok",
            "cost": played.cost.model_dump(),
            "fields": dict(played.fields),
            "warnings": list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, ArenaWarning))),
        }
    except MemoryError as error:
        result = {"status": "memory", "reason": f"ran out of its {limits.memory_gib:g} GiB of memory: {_line(error)}"}
    except Exception as error:  # noqa: BLE001 - a player may raise anything; it becomes a recorded failure
        traceback.print_exc()
        text = _line(error)
        if "allocate memory" in text or "alloc_cpu" in text:
            result = {"status": "memory", "reason": f"ran out of its {limits.memory_gib:g} GiB of memory: {text}"}
        else:
            kind = "" if isinstance(error, ArenaError) else f"{type(error).__name__}: "
            result = {"status": "failed", "reason": kind + text}
    (out / "result.json").write_text(json.dumps(result), encoding="utf-8")


def judge(connection: Connection, limits: Limits) -> None:
    """Serve (play, its result, what it started from) until the connection closes; replies are fields of the record."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    _die_with_parent()
    torch.set_num_threads(limits.threads)
    while True:
        try:
            play, result, given = connection.recv()
        except EOFError:
            return
        try:
            connection.send(play.judge(result, given))
        except Exception as error:  # noqa: BLE001 - the parent raises it again
            connection.send(error)


def _die_with_parent() -> None:
    """On Linux, be killed when the fork server ends, so that a killed run leaves no player behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _silence(log: Path) -> None:
    """Send the player's output to a log, so that it cannot garble the board."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)


def _limit_memory(gib: float) -> None:
    """Let the process allocate ``gib`` more than it has: data segment and private mappings (RLIMIT_DATA)."""
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux: no limit that covers mappings
        return
    present = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmData" in line)
    limit = present + int(gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _line(error: BaseException) -> str:
    """The first line of an error's message; the whole of it is in the log."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
