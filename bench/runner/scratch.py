"""Folders that a run makes and removes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def scratch_folder(parent: Path) -> Path:
    """A new empty folder below ``parent``."""
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=parent))


def remove(folder: Path) -> None:
    """Delete a folder and what is in it, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)
