"""What no limit of the kernel's counts for every user: threads, and what lies in a working folder. Looked at now and
then from outside, while the player runs.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

THREADS = 64
"""Threads that a process may have beyond those it computes with."""
FILES = 10_000
DEEPEST = 32
BYTES = 2**30
"""Bytes that its files may have beyond the memory limit, which bounds its result."""
_BLOCK = 512


def excess(pid: int | None, folder: Path, threads: int, memory_gib: float) -> str | None:
    """What a player has more of than it may, or None.

    Args:
        pid: its process, if it has started.
        folder: its working folder.
        threads: how many it may compute with.
        memory_gib: its memory limit.
    """
    running = _threads(pid)
    if running > THREADS + threads:
        return f"ran {running} threads; a player may have {THREADS + threads}"
    return _in_folder(folder, BYTES + int(memory_gib * 2**30))


def _threads(pid: int | None) -> int:
    """0 where the system does not say, or the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Threads:"):
                return int(line.split()[1])
    return 0


def _in_folder(folder: Path, most: int) -> str | None:
    """Stops at the first excess, so that the look itself stays short."""
    count = size = 0
    waiting = [(str(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            for entry in os.scandir(path):
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, depth + 1))
                else:
                    size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                if count > FILES:
                    return f"made over {FILES:,} files and folders"
        except OSError as error:  # what is not there any more does not count
            depth = DEEPEST + 1 if error.errno == errno.ENAMETOOLONG else depth
        if depth > DEEPEST:
            return f"made folders over {DEEPEST} deep"
        if size > most:
            return f"filled its working folder with over {most / 2**30:g} GiB"
    return None
