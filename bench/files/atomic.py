"""Text files that are whole or absent."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with the mode that the umask leaves, as for any other new file.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    # Not tempfile, whose files only their owner may read: boards and records are there to be shared.
    scratch = path.with_name(f".{path.name[:60]}.{secrets.token_hex(8)}.tmp")
    try:
        with scratch.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
