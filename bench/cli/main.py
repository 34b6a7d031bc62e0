"""The command line: ``mergearena ...``.

Exit codes: 0 done; 1 done, but plays failed or a check did not pass; 2 bad input; 3 the disk or the
system refused; 130 or 143 interrupted by Ctrl-C or SIGTERM (what was recorded stays).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mergearena import __version__
from mergearena.bench.cli import study, submit
from mergearena.bench.cli.auto import auto_app
from mergearena.bench.cli.board import board_app
from mergearena.bench.cli.console import console as _console
from mergearena.bench.cli.options import CORES, SuiteOption
from mergearena.bench.cli.stopping import Stopped, stoppable
from mergearena.bench.cli.zoo import zoo_app
from mergearena.bench.errors import ArenaError
from mergearena.bench.records import official

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
def run(
    track: Annotated[
        Literal["protection", "backdoor"],
        typer.Option(
            help="protection: defenses rewrite a victim, attacks merge it. backdoor: attacks poison uploads, "
            "defenses merge them safely."
        ),
    ] = "protection",
    suite: SuiteOption = "embedded",
    preset: Annotated[
        str,
        typer.Option(
            help="quick, standard, catalogue, full or dropout; backdoor: quick, standard, contributors or masks."
        ),
    ] = "quick",
    defense: Annotated[
        list[str] | None,
        typer.Option(
            help="Defense to play instead of the preset's, as in 'params(scaling=symmetric)', or, in the backdoor "
            "track, a merger as in 'adamerging > anp'. Repeatable."
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="Attack to play instead of the preset's, as in 'weight-matching > ties', auto, or badnets. Repeatable."
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(help="Match to play instead of the preset's, as victim+donor or malicious+other. Repeatable."),
    ] = None,
    malicious: Annotated[
        int, typer.Option(min=1, help="Backdoor: how many contributors of a match, the first ones, are one attacker's.")
    ] = 1,
    tier: Annotated[
        Literal["data-free", "unlabelled", "labelled"], typer.Option(help="Play no attack beyond this tier.")
    ] = "labelled",
    seed: Annotated[list[int] | None, typer.Option(help="Seed to play instead of the preset's. Repeatable.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Plays at a time; each gets its share of the cores.")] = CORES,
    records: Annotated[
        Path | None,
        typer.Option(help="Folder of the records; those that still hold are reused. [runs/SUITE/records]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the board. [runs/SUITE/leaderboard.json]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Play everything again, replacing records.")] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep what attacks start from, so that a later run need not make it again."),
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one player may take.")] = 600.0,
    memory: Annotated[float, typer.Option(min=0.1, help="GiB that one player may allocate.")] = 4.0,
    examples: Annotated[int, typer.Option(min=1, help="k: examples per task for the data tiers.")] = official.EXAMPLES,
    key: Annotated[
        str, typer.Option(help="Run key from which the defenses' secret seeds are derived; scoring uses a fresh one.")
    ] = official.KEY,
    plugin: Annotated[
        list[Path] | None, typer.Option(help="Python file with your own players to register. Repeatable.")
    ] = None,
) -> None:
    """Play defenses against attacks, then print the board and write it as JSON and HTML.

    One record per play is written as it finishes: a killed run resumes where it stopped.
    """
    from mergearena.bench.cli.commands.run import run as play
    from mergearena.bench.games import grid

    folder = Path("runs") / suite
    board = "leaderboard.json" if track == "protection" else f"{track}.json"
    code = play(
        grid.Options(
            track=track,
            suite=suite,
            preset=preset,
            defenses=tuple(defense or ()),
            attacks=tuple(attack or ()),
            matches=tuple(match or ()),
            malicious=malicious,
            tier=tier,
            seeds=tuple(seed or ()),
            jobs=jobs,
            records=records or folder / "records",
            out=out or folder / board,
            fresh=fresh,
            keep=keep,
            timeout=timeout,
            memory=memory,
            examples=examples,
            key=key,
            plugins=tuple(plugin or ()),
        ),
        _console(),
    )
    raise typer.Exit(code)


@app.command("list")
def list_players(
    what: Annotated[str, typer.Argument(help="defenses, attacks, suites or presets; everything by default.")] = "all",
) -> None:
    """List players, suites and presets."""
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
    """Run the command; user errors become one line and an exit code."""
    try:
        with stoppable():
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


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
