"""Hashes of files and of what identifies something."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergearena.bench.records.text import canonical_sha256


def identify(parts: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of what identifies a play."""
    return canonical_sha256(parts)


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
