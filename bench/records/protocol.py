"""What is the same for every play of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is the same for every play of a run."""

    suite: str
    key: str
    examples: int
    checkpoints: Mapping[str, str]
    """Model -> SHA-256 of its weights."""
