"""Import a submitted file in a process of its own, and ask which players it registers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from mergearena.bench import suites
from mergearena.bench.games.base import Facts, Files, Job, Played, Steps
from mergearena.bench.players.stand_in import Declaration, declare_all
from mergearena.bench.records.cost import Cost
from mergearena.bench.submit import toys
from mergearena.bench.suites import Suite


class Found(Facts):
    """The players of the file."""

    players: tuple[Declaration, ...] = ()


@dataclass(frozen=True)
class Inspection(Job):
    """The import of one file, which is also the process's only plugin."""

    path: Path
    """Absolute."""
    facts: ClassVar[type[Facts]] = Found

    @property
    def id(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def title(self) -> str:
        """The file."""
        return f"import of {self.path.name}"

    def sent(self) -> Self:
        """All of it."""
        return self

    def suite(self, files: Files) -> Suite:
        """A toy, which nobody looks at."""
        return suites.get(toys.suite_name("open_clip"))

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Declare what the import has registered."""
        return Played({}, Cost(), Found(players=declare_all(self.path)))
