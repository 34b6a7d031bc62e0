"""Options of ``mergearena submit score``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from mergearena.bench.cli.asked.playing import Limited
from mergearena.bench.cli.options import SuiteOption, TargetArgument


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Limited):
    """What ``mergearena submit score`` takes."""

    target: TargetArgument
    preset: Annotated[Literal["quick", "standard"], typer.Option(help="Matches and opponents.")] = "quick"
    suite: SuiteOption = "embedded"
    pipeline: Annotated[
        str | None, typer.Option(help="The whole attack or merger that the player is a stage of, if not the usual one.")
    ] = None
    author: Annotated[list[str] | None, typer.Option(help="Who answers for it. Repeatable. [you]")] = None
    out: Annotated[
        Path | None,
        typer.Option(help="Where the submission's folder is made. [leaderboard/submissions, or submissions]"),
    ] = None
