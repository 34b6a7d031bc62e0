"""How far a player is: a small file that its process overwrites now and then, and that its parent peeks at.

The player's process can write anything there, or put something else in the file's place: the parent opens nothing
but a plain file, never waits, reads a few bytes and believes only two plausible numbers.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path

NAME = "progress.txt"
EVERY = 0.2
"""Least seconds between two writes, so that a player that tells every step of a tight loop pays next to nothing."""

_STEPS = re.compile(rb"(\d{1,9}) (\d{1,9})\n")
_LONGEST = 20


class Writer:
    """Tells the parent; to be called as ``view.progress(done, total)``."""

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Write both numbers, unless the last ones are fresh. A full disk is not the player's failure."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        with suppress(OSError):
            # One write of a fixed length: a reader never sees half of it, nor the end of an older one.
            os.pwrite(self._handle, f"{int(done)} {int(total)}\n".encode().ljust(_LONGEST), 0)


def read(folder: Path) -> tuple[int, int] | None:
    """``(done, total)`` as last written, with 0 <= done <= total; None if there is nothing to believe."""
    with suppress(OSError):
        # Without O_NONBLOCK, opening a pipe put in the file's place would wait for ever.
        handle = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            text = os.read(handle, _LONGEST) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
        finally:
            os.close(handle)
        found = _STEPS.match(text)
        if found and int(found[1]) <= int(found[2]) > 0:
            return int(found[1]), int(found[2])
    return None
