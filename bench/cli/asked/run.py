"""Options of ``mergearena run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergearena.bench.cli.asked.playing import Playing
from mergearena.bench.cli.options import TRACK, ExamplesOption, PlayedRecordsOption, TierOption, TrackOption
from mergearena.bench.records import official

if TYPE_CHECKING:
    from mergearena.bench.games import grid


@dataclass(frozen=True, kw_only=True)
class RunOptions(Playing):
    """What ``mergearena run`` takes."""

    track: TrackOption = TRACK
    preset: Annotated[
        str, typer.Option(help="The grid to play, such as quick or standard; see `mergearena list presets`.")
    ] = "quick"
    defense: Annotated[
        list[str] | None,
        typer.Option(
            help="Defense to play instead of the preset's, as in 'params(scaling=symmetric)', or, in the backdoor "
            "track, a merger as in 'adamerging > anp'. Repeatable."
        ),
    ] = None
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="Attack to play instead of the preset's, as in 'weight-matching > ties', auto, or badnets. Repeatable."
        ),
    ] = None
    match: Annotated[
        list[str] | None,
        typer.Option(help="Match to play instead of the preset's, as victim+donor or malicious+other. Repeatable."),
    ] = None
    malicious: Annotated[
        int, typer.Option(min=1, help="Backdoor: how many contributors of a match, the first ones, are one attacker's.")
    ] = 1
    tier: TierOption = "labelled"
    seed: Annotated[list[int] | None, typer.Option(help="Seed to play instead of the preset's. Repeatable.")] = None
    examples: ExamplesOption = official.EXAMPLES
    records: PlayedRecordsOption = None
    out: Annotated[Path | None, typer.Option(help="Where to write the board. [runs/SUITE/leaderboard.json]")] = None
    fresh: Annotated[bool, typer.Option("--fresh", help="Play everything again, replacing records.")] = False
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep what attacks start from, so that a later run need not make it again."),
    ] = False

    @property
    def grid(self) -> grid.Options:
        """What is to be played."""
        from mergearena.bench.games import grid

        return grid.Options(
            track=self.track,
            suite=self.suite,
            preset=self.preset,
            defenses=tuple(self.defense or ()),
            attacks=tuple(self.attack or ()),
            matches=tuple(self.match or ()),
            malicious=self.malicious,
            tier=self.tier,
            seeds=tuple(self.seed or ()),
            examples=self.examples,
            key=self.key,
        )

    @property
    def record_folder(self) -> Path:
        """Where records are written."""
        return self.records or Path("runs") / self.suite / "records"

    @property
    def board_file(self) -> Path:
        """Where the board is written."""
        name = "leaderboard.json" if self.track == TRACK else f"{self.track}.json"
        return self.out or Path("runs") / self.suite / name
