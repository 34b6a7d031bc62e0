"""The command line of studies: ``mergearena study ...``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, help="Search for the strongest attack on one defense; sweep one quantity.")

CORES = os.cpu_count() or 1
Defense = Annotated[str, typer.Option(help="The defense to break, as in 'params(scaling=nonsymmetric)'.")]
TierOption = Annotated[
    Literal["data-free", "unlabelled", "labelled"], typer.Option(help="Play no attack beyond this tier.")
]
Matches = Annotated[
    list[str] | None, typer.Option("--match", help="Match to play instead of quick's, as victim+donor. Repeatable.")
]
Seeds = Annotated[
    list[int] | None, typer.Option("--seed", help="Seed to play; the first one seeds the search, too. Repeatable. [0]")
]
Jobs = Annotated[int, typer.Option(min=1, help="Plays at a time; each gets its share of the cores.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds that one player may take.")]
Memory = Annotated[float, typer.Option(min=0.1, help="GiB that one player may allocate.")]
Examples = Annotated[int, typer.Option(min=1, help="k: examples per task for the data tiers.")]
Key = Annotated[str, typer.Option(help="Run key from which the defenses' secret seeds are derived.")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with your own players to register. Repeatable.")
]


@app.command()
def run(
    defense: Defense,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials in all, those of known attacks and earlier runs included.")
    ],
    suite: Annotated[str, typer.Option(help="Suite to play: embedded or text.")] = "embedded",
    match: Matches = None,
    tier: TierOption = "data-free",
    stages: Annotated[
        list[str] | None, typer.Option(help="Search only these stages, as in 'weight-matching,ties'. Repeatable.")
    ] = None,
    budget_flops: Annotated[
        float | None, typer.Option(min=0, help="Stop once the attacks took so many operations.")
    ] = None,
    budget_minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so many minutes of playing.")] = None,
    seed: Seeds = None,
    jobs: Jobs = CORES,
    out: Annotated[
        Path | None, typer.Option(help="The study's folder; one that was begun goes on. [runs/SUITE/studies/DEFENSE]")
    ] = None,
    timeout: Timeout = 600.0,
    memory: Memory = 4.0,
    examples: Examples = 256,
    key: Key = "mergearena",
    plugin: Plugins = None,
) -> None:
    """Search for the strongest attack on a defense, beginning with the known ones.

    Every trial plays one pipeline; what it recovers on validation guides the next. Killed, the same command goes on.
    """
    from bench import study_command
    from bench.console import console

    study_command.run(
        study_command.Options(
            defense=defense,
            trials=trials,
            suite=suite,
            matches=tuple(match or ()),
            tier=tier,
            stages=tuple(name.strip() for part in stages or () for name in part.split(",")),
            flops=budget_flops,
            minutes=budget_minutes,
            seeds=tuple(seed or (0,)),
            jobs=jobs,
            out=out,
            timeout=timeout,
            memory=memory,
            examples=examples,
            key=key,
            plugins=tuple(plugin or ()),
        ),
        console(),
    )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The study's folder.")],
) -> None:
    """Say what a study found: curves, what mattered, the strongest pipeline and what it recovers on test."""
    from bench import study_command
    from bench.console import console

    study_command.report(folder, console())
