"""The command line of submissions: ``mergearena submit ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mergearena.bench.cli.asked.submit import ScoreOptions
from mergearena.bench.cli.console import console
from mergearena.bench.cli.options import TargetArgument, takes

app = typer.Typer(no_args_is_help=True, help="Write, check and score a defense or an attack of your own.")
new_app = typer.Typer(no_args_is_help=True, help="Write a documented, working template into this folder.")
app.add_typer(new_app, name="new")

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
def check(target: TargetArgument) -> None:
    """Run the gates on toy models of every architecture family: each one a tick, or a cross and the remedy."""
    from mergearena.bench.cli.commands import submit

    if not submit.check(target, console()):
        raise typer.Exit(1)


@app.command()
@takes(ScoreOptions)
def score(options: ScoreOptions) -> None:
    """Play a defense against auto, or an attack against every defense, under a fresh key; write the submission."""
    from mergearena.bench.cli.commands import submit

    raise typer.Exit(submit.score(options, console()))


def _new(kind: str, name: str, as_class: bool) -> None:
    from mergearena.bench.cli.commands import submit

    submit.new(kind, name, as_class, Path.cwd(), console())
