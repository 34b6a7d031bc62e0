"""What made a record: players' code, packages, the unit of relative cost."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mergearena.bench import suites
from mergearena.bench.games import metering
from mergearena.bench.games.base import Play

PACKAGES = ("mergearena", "torch", "numpy", "scipy", "open_clip_torch", "transformers", "safetensors")


def code_of(play: Play) -> dict[str, str]:
    """Player -> SHA-256 of the source file it is defined in."""
    return {player.name: player.source or _source_hash(type(player).__module__) for player in play.players}


@cache
def _source_hash(module: str) -> str:
    path = getattr(sys.modules.get(module), "__file__", None)
    return hashlib.sha256(Path(path).read_bytes() if path else module.encode()).hexdigest()


@cache
def packages() -> dict[str, str]:
    """Package -> version, of those that numbers may depend on."""
    return {name: version(name) for name in PACKAGES}


@cache
def fine_tuning_flops(suite: str) -> int:
    """Operations of fine-tuning one model of a suite, measured once."""
    return metering.fine_tuning_flops(suites.get(suite))
