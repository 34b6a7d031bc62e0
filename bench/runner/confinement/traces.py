"""What a forked process has of its parents, and a player's is not to have: open files, variables, arguments, keys."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

_KEPT = ("LANG", "TZ", "PATH", "TMPDIR")
_KEPT_PREFIXES = ("LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ATEN_", "DNNL_", "ONEDNN_", "TORCH_")
"""Language and time; how libraries compute, and with how many threads."""


def wipe(own: Path) -> None:
    """Give up open files, the environment, command-line arguments and multiprocessing's key.

    Files of the working folder stay open, and so does the log. What stays of the others is unusable: their numbers
    lead to /dev/null, so that nothing that closes one later closes a file of the player's.

    Args:
        own: the working folder, which becomes the home.
    """
    _wipe_files(own)
    _wipe_keys()
    _wipe_environment(own)
    sys.argv[:] = sys.orig_argv[:] = [""]


def _wipe_files(own: Path) -> None:
    folder = os.path.realpath(own)
    null = os.open(os.devnull, os.O_RDWR)
    for number in {int(name) for name in os.listdir("/proc/self/fd")} - {1, 2, null}:
        with suppress(OSError):  # the listing's own is closed by now
            if not Path(os.readlink(f"/proc/self/fd/{number}")).is_relative_to(folder):
                os.dup2(null, number, inheritable=number == 0)
    os.close(null)


def _wipe_keys() -> None:
    """Zero the bytes themselves: copies of the reference can be anywhere in the interpreter."""
    for process in set(_processes()):
        key = process.__dict__.get("_config", {}).get("authkey", b"")
        ctypes.memset(id(key) + bytes.__basicsize__ - 1, 0, len(key))


def _processes() -> Iterator[BaseProcess]:
    """Multiprocessing's process objects, which its frames refer to."""
    frame = sys._getframe()
    while frame is not None:
        yield from (value for value in frame.f_locals.values() if isinstance(value, BaseProcess))
        frame = frame.f_back  # type: ignore[assignment]


def _wipe_environment(own: Path) -> None:
    """Keep a few variables; zero the memory in which the kernel put all of them, and the arguments before them."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    os.environ.clear()
    os.environ.update(kept, HOME=str(own), USER="player")
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    arguments, arguments_end, variables, variables_end = (int(field) for field in fields[45:49])
    for start, end in ((arguments, arguments_end), (variables, variables_end)):
        ctypes.memset(start, 0, end - start)
