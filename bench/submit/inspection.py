"""Import a submitted file in a process of its own, and ask which players it registers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from bench import registry, suites
from bench.cost import Cost
from bench.declaration import Declaration, declare
from bench.games.base import Facts, Files, Job, Played, Steps
from bench.submit import toys
from bench.suites import Suite


class Found(Facts):
    """The players of the file."""

    players: tuple[Declaration, ...] = ()


@dataclass(frozen=True)
class Inspection(Job):
    """The import of one file, which is also the process's only plugin."""

    path: Path
    source: str
    """SHA-256 of the file, which the stand-ins of its players will carry."""
    facts: ClassVar[type[Facts]] = Found

    @classmethod
    def of(cls, path: Path) -> Self:
        """The inspection of a file as it is now."""
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest())

    @property
    def id(self) -> str:
        """The file's hash."""
        return self.source

    @property
    def title(self) -> str:
        """The file."""
        return f"import of {self.path.name}"

    def shown(self) -> Self:
        """All of it."""
        return self

    def suite(self, files: Files) -> Suite:
        """A toy, which nobody looks at."""
        return suites.get(toys.suite_name("open_clip"))

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Declare what the import has registered."""
        own = [p for p in registry.players() if p.__module__ == registry.plugin_module(self.path)]
        return Played({}, Cost(), Found(players=tuple(declare(player, self.source) for player in own)))
