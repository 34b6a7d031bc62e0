"""The command line of studies: ``mergearena study ...``."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from mergearena.bench.records import official

app = typer.Typer(no_args_is_help=True, help="Search for the strongest attack on one defense; sweep one quantity.")

CORES = os.cpu_count() or 1
Suite = Annotated[str, typer.Option(help="Suite to play: embedded or text.")]
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
    suite: Suite = "embedded",
    match: Matches = None,
    tier: TierOption = "data-free",
    stages: Annotated[
        list[str] | None, typer.Option(help="Search only these stages, as in 'weight-matching,ties'. Repeatable.")
    ] = None,
    budget_flops: Annotated[
        float, typer.Option(min=0, show_default=False, help="Stop once the attacks took so many operations.")
    ] = math.inf,
    budget_minutes: Annotated[
        float, typer.Option(min=0, show_default=False, help="Stop after so many minutes of playing.")
    ] = math.inf,
    seed: Seeds = None,
    jobs: Jobs = CORES,
    out: Annotated[
        Path | None, typer.Option(help="The study's folder; one that was begun goes on. [runs/SUITE/studies/DEFENSE]")
    ] = None,
    timeout: Timeout = 600.0,
    memory: Memory = 4.0,
    examples: Examples = official.EXAMPLES,
    key: Key = official.KEY,
    plugin: Plugins = None,
) -> None:
    """Search for the strongest attack on a defense, beginning with the known ones.

    Every trial plays one pipeline; what it recovers on validation guides the next. Killed, the same command goes on.
    """
    from mergearena.bench.cli.commands import study
    from mergearena.bench.cli.console import console

    study.run(
        study.Options(
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
    plugin: Plugins = None,
) -> None:
    """Say what a study found: curves, what mattered, the strongest pipeline and what it recovers on test."""
    from mergearena.bench.cli.commands import study
    from mergearena.bench.cli.console import console

    study.report(folder, console(), tuple(plugin or ()))


@app.command()
def sweep(
    values: Annotated[str, typer.Option(help="The values, as in 0.1,0.2,0.4.")],
    track: Annotated[Literal["protection", "backdoor"], typer.Option(help="The game to play.")] = "protection",
    suite: Suite = "embedded",
    defense: Annotated[
        list[str] | None,
        typer.Option(help="As of `mergearena run`; {} stands for the value. Repeatable, as are --attack and --match."),
    ] = None,
    attack: Annotated[list[str] | None, typer.Option(help="The same.")] = None,
    match: Annotated[list[str] | None, typer.Option(help="The same.")] = None,
    malicious: Annotated[str, typer.Option(help="Backdoor: malicious contributors, a number or {}.")] = "1",
    examples: Annotated[str, typer.Option(help="k: examples per task for the data tiers, a number or {}.")] = str(
        official.EXAMPLES
    ),
    tier: Annotated[
        Literal["data-free", "unlabelled", "labelled"], typer.Option(help="Play no attack beyond this tier.")
    ] = "labelled",
    seed: Annotated[list[int] | None, typer.Option(help="Seed to play. Repeatable. [0]")] = None,
    jobs: Jobs = CORES,
    records: Annotated[
        Path | None, typer.Option(help="Folder of the records; those that still hold are reused. [runs/SUITE/records]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the table and the page. [runs/SUITE/sweep]")] = None,
    timeout: Timeout = 600.0,
    memory: Memory = 4.0,
    key: Key = official.KEY,
    plugin: Plugins = None,
) -> None:
    """Play the same for each of several values, and draw what is measured against the value.

    `mergearena study sweep --values 0.2,0.5,0.8 --defense none --attack "identity > task-arithmetic(scale={})"`
    """
    from mergearena.bench.cli.commands.sweep import Options
    from mergearena.bench.cli.commands.sweep import run as play
    from mergearena.bench.cli.console import console

    code = play(
        Options(
            values=tuple(value.strip() for value in values.split(",")),
            track=track,
            suite=suite,
            defenses=tuple(defense or ()),
            attacks=tuple(attack or ()),
            matches=tuple(match or ()),
            malicious=malicious,
            examples=examples,
            tier=tier,
            seeds=tuple(seed or (0,)),
            jobs=jobs,
            records=records or Path("runs") / suite / "records",
            out=out or Path("runs") / suite / "sweep",
            timeout=timeout,
            memory=memory,
            key=key,
            plugins=tuple(plugin or ()),
        ),
        console(),
    )
    raise typer.Exit(code)
