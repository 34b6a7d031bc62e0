"""Options of ``mergearena study run`` and ``sweep``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergearena.bench.cli.asked.playing import Playing
from mergearena.bench.cli.options import TRACK, ExamplesOption, PlayedRecordsOption, TierOption, TrackOption
from mergearena.bench.errors import ArenaError
from mergearena.bench.records import official

if TYPE_CHECKING:
    from mergearena.bench.games import grid


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Playing):
    """What ``mergearena study run`` takes."""

    defense: Annotated[str, typer.Option(help="The defense to break, as in 'params(scaling=nonsymmetric)'.")]
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of known attacks and earlier runs included.")]
    match: Annotated[
        list[str] | None, typer.Option(help="Match to play instead of quick's, as victim+donor. Repeatable.")
    ] = None
    tier: TierOption = "data-free"
    stages: Annotated[
        list[str] | None, typer.Option(help="Search only these stages, as in 'weight-matching,ties'. Repeatable.")
    ] = None
    budget_flops: Annotated[
        float, typer.Option(min=0, show_default=False, help="Stop once the attacks took so many operations.")
    ] = math.inf
    budget_minutes: Annotated[
        float, typer.Option(min=0, show_default=False, help="Stop after so many minutes of playing.")
    ] = math.inf
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed to play; the first one seeds the search, too. Repeatable. [0]")
    ] = None
    examples: ExamplesOption = official.EXAMPLES
    out: Annotated[
        Path | None, typer.Option(help="The study's folder; one that was begun goes on. [runs/SUITE/studies/DEFENSE]")
    ] = None

    @property
    def only(self) -> tuple[str, ...]:
        """The stages to search; none: all of them."""
        return tuple(name.strip() for part in self.stages or () for name in part.split(","))


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Playing):
    """What ``mergearena study sweep`` takes; ``{}`` in a text stands for the value."""

    values: Annotated[str, typer.Option(help="The values, as in 0.1,0.2,0.4.")]
    track: TrackOption = TRACK
    defense: Annotated[
        list[str] | None,
        typer.Option(help="As of `mergearena run`; {} stands for the value. Repeatable, as are --attack and --match."),
    ] = None
    attack: Annotated[list[str] | None, typer.Option(help="The same.")] = None
    match: Annotated[list[str] | None, typer.Option(help="The same.")] = None
    malicious: Annotated[str, typer.Option(help="Backdoor: malicious contributors, a number or {}.")] = "1"
    examples: Annotated[str, typer.Option(help="k: examples per task for the data tiers, a number or {}.")] = str(
        official.EXAMPLES
    )
    tier: TierOption = "labelled"
    seed: Annotated[list[int] | None, typer.Option(help="Seed to play. Repeatable. [0]")] = None
    records: PlayedRecordsOption = None
    out: Annotated[Path | None, typer.Option(help="Folder of the table and the page. [runs/SUITE/sweep]")] = None

    @property
    def swept(self) -> tuple[str, ...]:
        """The values, one by one."""
        return tuple(value.strip() for value in self.values.split(","))

    @property
    def texts(self) -> tuple[str, ...]:
        """Those in which a value may stand."""
        lists = (self.defense or (), self.attack or (), self.match or ())
        return (*(text for texts in lists for text in texts), self.malicious, self.examples)

    @property
    def record_folder(self) -> Path:
        """Where records are written."""
        return self.records or Path("runs") / self.suite / "records"

    @property
    def folder(self) -> Path:
        """Where table and page are written."""
        return self.out or Path("runs") / self.suite / "sweep"

    def at(self, value: str) -> grid.Options:
        """What an ordinary run plays at one value.

        Raises:
            ArenaError: a number is none.
        """
        from mergearena.bench.games import grid
        from mergearena.bench.study.sweep import filled

        return grid.Options(
            track=self.track,
            suite=self.suite,
            preset="quick",
            defenses=tuple(filled(text, value) for text in self.defense or ()),
            attacks=tuple(filled(text, value) for text in self.attack or ()),
            matches=tuple(filled(text, value) for text in self.match or ()),
            malicious=_count("--malicious", filled(self.malicious, value)),
            tier=self.tier,
            seeds=tuple(self.seed or (0,)),
            examples=_count("--examples", filled(self.examples, value)),
            key=self.key,
        )


def _count(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArenaError(f"{option} takes whole numbers from 1, not {text!r}")
    return int(text)
