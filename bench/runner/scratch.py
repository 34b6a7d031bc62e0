"""Folders that a run makes and removes."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def scratch_folder(parent: Path) -> Path:
    """A new empty folder below ``parent``."""
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=parent))


def remove(folder: Path) -> None:
    """Delete a folder and what is in it, if it exists; what cannot be deleted is left.

    Folders inside may be as deep as they like: paths stay short, nothing recurses, and one folder is open at a time.
    """
    with suppress(OSError):
        handle = _opened(str(folder), None)
        levels = [_emptied(handle)]  # of each folder from the top to the open one: the folders left in it
        while levels:
            if levels[-1]:
                try:
                    handle, above = _opened(levels[-1][-1], handle), handle
                except OSError:
                    levels[-1].pop()
                    continue
                levels.append(_emptied(handle))
            else:
                levels.pop()
                above = handle
                if levels:
                    handle = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
                    with suppress(OSError):
                        os.rmdir(levels[-1].pop(), dir_fd=handle)
            os.close(above)
        folder.rmdir()


def _opened(name: str, within: int | None) -> int:
    """A handle of a folder, made one's own to empty."""
    os.chmod(name, 0o700, dir_fd=within)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)


def _emptied(handle: int) -> list[str]:
    """Delete all files and links in a folder.

    Returns:
        The names of the folders in it.
    """
    folders = []
    with os.scandir(handle) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                with suppress(OSError):
                    os.unlink(entry.name, dir_fd=handle)
    return folders
