"""What a run's numbers depend on beside the code: the machine, the packages, the shipped data and models."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mergearena import __version__
from mergearena.bench.players.registry import registry
from mergearena.bench.runner.confinement import confine, landlock
from mergearena.bench.suites import integrity


@dataclass(frozen=True)
class Line:
    """One thing about this machine."""

    what: str
    found: str
    status: str = "passed"
    """``passed``; ``weaker``: numbers stand, but less keeps a player from cheating; or ``failed``."""


def state() -> Iterator[Line]:
    """The state of machine and installation, best known before any number is trusted."""
    yield Line("MergeArena", f"{__version__}, {sum(1 for _ in registry.players())} players")
    for name, reason in registry.broken().items():
        yield Line("players", f"those of {name} could not be imported: {reason}", "weaker")
    yield Line("system", f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} cores")
    yield Line("python", f"{platform.python_version()}; torch {torch.__version__}, threads: {torch.get_num_threads()}")
    yield Line("device", "cpu: plays use no accelerator")
    yield _confinement()
    differing = list(integrity.differing())
    for problem in differing:
        yield Line("data, models", problem, "failed")
    if not differing:
        yield Line("data, models", "every shipped file has its SHA-256")


def _confinement() -> Line:
    lacking = confine.supported()
    if lacking is not None:
        return Line("confinement", f"limits on time and memory alone: {lacking}", "weaker")
    return Line("confinement", f"Landlock ABI {landlock.version()} and seccomp")
