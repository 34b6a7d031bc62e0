"""Generators whose seeds are hashes."""

from __future__ import annotations

import hashlib

import torch


def seeded(*parts: object) -> torch.Generator:
    """A generator whose seed is a hash of the parts."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
