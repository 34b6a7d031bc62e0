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

from bench import __version__, official, study_cli, submit_cli
from bench.console import console as _console
from bench.errors import ArenaError
from bench.stopping import Stopped, stoppable

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
zoo_app = typer.Typer(no_args_is_help=True, help="Build, verify and list the suites' models.")
board_app = typer.Typer(no_args_is_help=True, help="Turn records into the leaderboard.")
app.add_typer(zoo_app, name="zoo")
auto_app = typer.Typer(no_args_is_help=True, help="Check and choose auto, the standard ensemble of attacks.")
app.add_typer(board_app, name="leaderboard")
app.add_typer(auto_app, name="auto")
app.add_typer(study_cli.app, name="study")
app.add_typer(submit_cli.app, name="submit")

CORES = os.cpu_count() or 1
RecordsOption = Annotated[
    list[Path], typer.Option("--records", help="Folder of a catalogue run's records. Repeatable: one per suite.")
]
BoardOption = Annotated[Path, typer.Option("--board", help="Folder of the committed board.")]
SuiteOption = Annotated[str, typer.Option("--suite", help="Suite to play: embedded or text.")]


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
    from bench import play_command

    folder = Path("runs") / suite
    board = "leaderboard.json" if track == "protection" else f"{track}.json"
    code = play_command.run(
        play_command.Options(
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
    from bench import describe

    _console().print(describe.listing(what))


@app.command()
def show(name: Annotated[str, typer.Argument(help="A player's name, as `mergearena list` prints it.")]) -> None:
    """Explain one player: what it computes, its paper, its config with defaults."""
    from bench import describe

    _console().print(describe.player(name))


@app.command()
def doctor() -> None:
    """Can numbers made here be trusted? Plant known faults and see that each is caught, in about a minute."""
    from bench import doctor_command

    if not doctor_command.doctor(_console()):
        raise typer.Exit(1)


@zoo_app.command("list")
def zoo_list(suite: SuiteOption = "embedded") -> None:
    """Show a suite's tasks, data and models."""
    from bench import zoo

    _console().print(zoo.listing(suite))


@zoo_app.command("verify")
def zoo_verify(suite: SuiteOption = "embedded") -> None:
    """Evaluate a suite's models again and compare with the figures stored beside them."""
    from bench import zoo

    if not zoo.verify(suite, _console()):
        raise typer.Exit(1)


@zoo_app.command("build")
def zoo_build(
    suite: SuiteOption = "embedded",
    out: Annotated[Path | None, typer.Option(help="Folder to write to; the suite's own by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
) -> None:
    """Train a suite's base and fine-tuned models from nothing."""
    from bench import zoo

    zoo.build(suite, out, seed, _console())


@board_app.command("build")
def leaderboard_build(
    folder: BoardOption = Path("leaderboard"),
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Build a board of these folders' records instead, such as a run's. Repeatable."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="With --records: where to write the board; its page goes beside it, as .html.")
    ] = Path("runs/leaderboard.json"),
) -> None:
    """Build the committed board, as JSON and as a page: the same records give the same bytes."""
    from bench import board_command

    if records:
        board_command.build_from(records, out, _console())
    else:
        board_command.build_committed(folder, _console())


@board_app.command("check")
def leaderboard_check(folder: BoardOption = Path("leaderboard")) -> None:
    """Is the committed board what its records say, and is every record as it was written? Exit code 1 if not."""
    from bench import board_command

    if not board_command.check(folder, _console()):
        raise typer.Exit(1)


@board_app.command("publish")
def leaderboard_publish(
    records: Annotated[list[Path], typer.Option(help="Folder of a run's records. Repeatable: one per suite.")],
    folder: BoardOption = Path("leaderboard"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Make a run's records official and build the board again: nothing else changes official records."""
    from bench import board_command

    if not board_command.publish(records, folder, _console(), confirmed=yes):
        raise typer.Exit(1)


@board_app.command("add")
def leaderboard_add(
    claims: Annotated[list[Path], typer.Argument(help="JSON files, each a pipeline or merged weights and a defense.")],
    folder: BoardOption = Path("leaderboard"),
) -> None:
    """Try stronger attacks on known defenses, and add what they reach to the board as later evidence."""
    from bench import evidence_command

    evidence_command.add(claims, folder, _console())


@auto_app.command("check")
def auto_check(records: RecordsOption) -> None:
    """Compare what auto reaches with what every recorded attack together reaches, and their cost."""
    from bench import auto_command

    if not auto_command.check(records, _console()):
        raise typer.Exit(1)


@auto_app.command("choose")
def auto_choose(records: RecordsOption) -> None:
    """Print the cheapest ensemble found that reaches what every recorded attack together reaches."""
    from bench import auto_command

    auto_command.choose(records, _console())


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
