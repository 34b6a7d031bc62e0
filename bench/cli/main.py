"""The command line: ``mergearena ...``.

Exit codes: 0 done; 1 done, but plays failed or a check did not pass; 2 bad input; 3 the disk or the
system refused; 130 or 143 interrupted by Ctrl-C or SIGTERM (what was recorded stays).
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, TextIO

import typer

from mergearena import __version__
from mergearena.bench.cli import study, submit
from mergearena.bench.cli.asked.run import RunOptions
from mergearena.bench.cli.auto import auto_app
from mergearena.bench.cli.board import board_app
from mergearena.bench.cli.console import console as _console
from mergearena.bench.cli.options import takes
from mergearena.bench.cli.stopping import Stopped, stoppable
from mergearena.bench.cli.zoo import zoo_app
from mergearena.bench.errors import ArenaError, ArenaWarning

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="**MergeArena**: defenses against attacks on model merging, scored under one set of rules.\n\n"
    "Start with `mergearena run`; then `list` and `show NAME`.",
    epilog="Exit codes: 0 done · 1 plays failed or a check did not pass · 2 bad input · 3 disk or system error.",
)
app.add_typer(zoo_app, name="zoo")
app.add_typer(board_app, name="leaderboard")
app.add_typer(auto_app, name="auto")
app.add_typer(study.app, name="study")
app.add_typer(submit.app, name="submit")


@app.command()
@takes(RunOptions)
def run(options: RunOptions) -> None:
    """Play defenses against attacks, then print the board and write it as JSON and HTML.

    One record per play is written as it finishes: a killed run resumes where it stopped.
    """
    from mergearena.bench.cli.commands.run import run as play

    raise typer.Exit(play(options, _console()))


@app.command("list")
def list_players(
    what: Annotated[
        str, typer.Argument(help="defenses, attacks, suites, tracks or presets; everything by default.")
    ] = "all",
) -> None:
    """List players, suites, tracks and presets."""
    from mergearena.bench.cli.commands import players

    _console().print(players.listing(what))


@app.command()
def show(name: Annotated[str, typer.Argument(help="A player's name, as `mergearena list` prints it.")]) -> None:
    """Explain one player: what it computes, its paper, its config with defaults."""
    from mergearena.bench.cli.commands import players

    _console().print(players.player(name))


@app.command()
def doctor() -> None:
    """Can numbers made here be trusted? Plant known faults and see that each is caught, in about a minute."""
    from mergearena.bench.cli.commands.doctor import doctor as examine

    if not examine(_console()):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def version(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of the command itself."""
    if show_version:
        _console().print(f"mergearena {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command; user errors become one line and an exit code, warnings one line."""
    try:
        with stoppable(), warnings.catch_warnings():
            warnings.showwarning = _warn
            app()
    except ArenaError as error:
        _console(stderr=True).print(f"[bold red]error:[/] {_escaped(str(error))}", highlight=False)
        sys.exit(2)
    except OSError as error:
        _console(stderr=True).print(f"[bold red]error:[/] {_escaped(str(error))}", highlight=False)
        sys.exit(3)
    except Stopped as stopped:
        _console(stderr=True).print("interrupted; finished plays are recorded: run the same command to go on")
        os._exit(stopped.exit_code)  # unloading torch, as an exit does, takes seconds, and there is nothing to lose


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line for this project's warnings, and Python's own form for all others."""
    if issubclass(category, ArenaWarning):
        _console(stderr=True).print(f"[bold yellow]warning:[/] {_escaped(str(message))}", highlight=False)
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
