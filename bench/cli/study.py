"""``mergearena study ...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergearena.bench.cli.asked.study import StudyOptions, SweepOptions
from mergearena.bench.cli.console import console
from mergearena.bench.cli.options import PluginOption, takes

app = typer.Typer(no_args_is_help=True, help="Search for the strongest attack on one defense; sweep one quantity.")


@app.command()
@takes(StudyOptions)
def run(options: StudyOptions) -> None:
    """Search for the strongest attack on a defense, beginning with the known ones.

    Every trial plays one pipeline; what it recovers on validation guides the next. Killed, the same command goes on.
    """
    from mergearena.bench.cli.commands import study

    study.run(options, console())


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The study's folder.")],
    plugin: PluginOption = None,
) -> None:
    """Say what a study found: curves, what mattered, the strongest pipeline and what it recovers on test."""
    from mergearena.bench.cli.commands import study

    study.report(folder, console(), tuple(plugin or ()))


@app.command()
@takes(SweepOptions)
def sweep(options: SweepOptions) -> None:
    """Play the same for each of several values, and draw what is measured against the value.

    `mergearena study sweep --values 0.2,0.5,0.8 --defense none --attack "identity > task-arithmetic(scale={})"`
    """
    from mergearena.bench.cli.commands.sweep import run as play

    raise typer.Exit(play(options, console()))
