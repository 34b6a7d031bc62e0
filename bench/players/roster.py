"""Players beyond the installed ones: the files that register them, and what these say of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mergearena.bench.players.stand_in import Declaration, declare_all


@dataclass(frozen=True)
class Roster:
    """Who may play beside the installed players."""

    plugins: tuple[Path, ...] = ()
    """Files that players' processes import."""
    declared: tuple[Declaration, ...] = ()
    """Their players, for processes that do not import them: judges."""

    @classmethod
    def of(cls, plugins: Iterable[Path]) -> Roster:
        """The roster of files that this process has loaded."""
        files = tuple(plugins)
        return cls(files, tuple(player for path in files for player in declare_all(path)))
