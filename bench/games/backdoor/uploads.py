"""What a malicious contributor leaves: its uploads and its trigger, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.triggers import Trigger, restored


def joined(models: Mapping[str, StateDict]) -> StateDict:
    """Several models in one file: ``task/key`` -> tensor."""
    return {f"{task}/{key}": value for task, state in models.items() for key, value in state.items()}


def contributions(path: Path) -> dict[str, StateDict]:
    """Task -> model, of a file of :func:`joined` models."""
    return _parts(checkpoints.load(path, dtype=None))


def read(path: Path) -> tuple[dict[str, StateDict], Trigger]:
    """Uploads by task, and the trigger, of a contribution's result."""
    return parted(checkpoints.load(path, dtype=None))


def parted(tensors: StateDict) -> tuple[dict[str, StateDict], Trigger]:
    """Uploads by task, and the trigger, of what a malicious contributor hands over."""
    parts = _parts(tensors)
    return parts, restored(parts.pop("trigger", {}))


def _parts(tensors: StateDict) -> dict[str, StateDict]:
    parts: dict[str, StateDict] = {}
    for name, value in tensors.items():
        owner, _, key = name.partition("/")
        parts.setdefault(owner, {})[key] = value
    return parts
