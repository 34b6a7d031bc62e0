"""Options of all commands that play."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from mergearena.bench.cli.options import CORES, PluginOption, SuiteOption
from mergearena.bench.records import official

if TYPE_CHECKING:
    from mergearena.bench.players.roster import Roster
    from mergearena.bench.runner.executors.limits import Limits

_RUNNING = "How it is run"
"""Title of the help's part on what changes no result that is there in time."""


@dataclass(frozen=True, kw_only=True)
class Limited:
    """What commands take that run players: how many at a time, and what each may use."""

    jobs: Annotated[
        int, typer.Option(min=1, help="Plays at a time; each gets its share of the cores.", rich_help_panel=_RUNNING)
    ] = CORES
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that one player may take.", rich_help_panel=_RUNNING)
    ] = 600.0
    memory: Annotated[
        float, typer.Option(min=0.1, help="GiB that one player may allocate.", rich_help_panel=_RUNNING)
    ] = 4.0

    @property
    def limits(self) -> Limits:
        """Of one player; threads are shared among those that play at a time."""
        from mergearena.bench.runner.executors.limits import Limits

        return Limits(self.timeout, self.memory, max(1, CORES // self.jobs))


@dataclass(frozen=True, kw_only=True)
class Playing(Limited):
    """What commands take that play a suite."""

    suite: SuiteOption = "embedded"
    key: Annotated[
        str, typer.Option(help="Run key from which the defenses' secret seeds are derived; scoring uses a fresh one.")
    ] = official.KEY
    plugin: PluginOption = None

    def load(self) -> Roster:
        """Register the players of the plugins, and say who they are.

        Raises:
            ArenaError: a file cannot be imported.
        """
        from mergearena.bench.players.plugins import load_plugin
        from mergearena.bench.players.roster import Roster

        for path in self.plugin or ():
            load_plugin(path)
        return Roster.of(self.plugin or ())
