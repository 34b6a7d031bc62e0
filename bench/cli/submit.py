"""The command line of submissions: ``mergearena submit ...``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, help="Write, check and score a defense or an attack of your own.")
new_app = typer.Typer(no_args_is_help=True, help="Write a documented, working template into this folder.")
app.add_typer(new_app, name="new")

CORES = os.cpu_count() or 1
NameArgument = Annotated[str, typer.Argument(help="What the player is called, as in my-defense.")]
TrackOption = Annotated[
    Literal["protection", "backdoor"],
    typer.Option(help="protection: rewrite or merge a victim. backdoor: merge uploads safely, or poison one."),
]
ClassOption = Annotated[bool, typer.Option("--class", help="A class, for options with their own documentation.")]


@new_app.command("defense")
def new_defense(name: NameArgument, track: TrackOption = "protection", as_class: ClassOption = False) -> None:
    """Write the template of a defense, or, in the backdoor track, of a safe merger."""
    _new("defense" if track == "protection" else "safe-merge", name, as_class)


@new_app.command("attack")
def new_attack(
    name: NameArgument,
    track: TrackOption = "protection",
    stage: Annotated[
        Literal["align", "merge", "recover"],
        typer.Option(help="Protection: which stage of 'align > merge > recover' it is."),
    ] = "merge",
    as_class: ClassOption = False,
) -> None:
    """Write the template of an attack's stage, or, in the backdoor track, of a malicious contributor."""
    _new(stage if track == "protection" else "contributor", name, as_class)


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="The file, and which of its players.")],
) -> None:
    """Run the gates on toy models of every architecture family: each one a tick, or a cross and the remedy."""
    from mergearena.bench.cli.commands import submit
    from mergearena.bench.cli.console import console

    if not submit.check(target, console()):
        raise typer.Exit(1)


@app.command()
def score(
    target: Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="The file, and which of its players.")],
    preset: Annotated[Literal["quick", "standard"], typer.Option(help="Matches and opponents.")] = "quick",
    suite: Annotated[str, typer.Option(help="embedded or text.")] = "embedded",
    pipeline: Annotated[
        str | None, typer.Option(help="The whole attack or merger that the player is a stage of, if not the usual one.")
    ] = None,
    author: Annotated[list[str] | None, typer.Option(help="Who answers for it. Repeatable. [you]")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the submission's folder is made. [leaderboard/submissions, or submissions]"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Plays at a time; each gets its share of the cores.")] = CORES,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one player may take.")] = 600.0,
    memory: Annotated[float, typer.Option(min=0.1, help="GiB that one player may allocate.")] = 4.0,
) -> None:
    """Play a defense against auto, or an attack against every defense, under a fresh key; write the submission."""
    from mergearena.bench.cli.commands import submit
    from mergearena.bench.cli.console import console
    from mergearena.bench.runner.executors.limits import Limits

    limits = Limits(seconds=timeout, memory_gib=memory)
    wanted = submit.Wanted(preset, suite, pipeline, tuple(author or ()), out, jobs, limits)
    raise typer.Exit(submit.score(target, wanted, console()))


def _new(kind: str, name: str, as_class: bool) -> None:
    from mergearena.bench.cli.commands import submit
    from mergearena.bench.cli.console import console

    submit.new(kind, name, as_class, Path.cwd(), console())
