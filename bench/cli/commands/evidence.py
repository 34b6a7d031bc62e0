"""``mergearena leaderboard add``: try what others say breaks a defense, and add what it reaches to the board."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mergearena.bench.cli.commands.board import build_committed
from mergearena.bench.errors import ArenaError
from mergearena.bench.runner import run
from mergearena.bench.runner.executors.limits import Limits
from mergearena.leaderboard.archive.claims import Claim, evidence, read_claim
from mergearena.leaderboard.archive.claims import targets as attacked
from mergearena.leaderboard.archive.rebuild import whole
from mergearena.leaderboard.archive.submission import write_submission
from mergearena.leaderboard.archive.survey import SUBMISSIONS
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.board.parts import IntervalPart
from mergearena.leaderboard.protection.parts import SuiteBoard

PLAYED = Path("runs/evidence")
"""Where the records of what is played are kept, so that a killed command resumes."""


def add(claims: Sequence[Path], folder: Path, console: Console) -> None:
    """Try claims of stronger attacks, and add what they give to a board as submissions of kind ``evaluation``.

    Raises:
        ArenaError: a claim does not fit the board, or gives nothing.
    """
    for path in claims:
        claim = read_claim(path)
        home = folder / SUBMISSIONS / claim.name
        if home.exists():
            raise ArenaError(f"{home}: there is a submission of that name; choose another")
        before = whole(folder)
        targets = attacked(claim, path.parent, before.records.values())
        plays = [play for t in targets for play in ((t.release,) if t.weights else (t.release, t.attack))]
        with console.status(f"playing {claim.spelling} against {claim.defense} on {len(targets)} matches and seeds"):
            summary = run.run(
                list({play.id: play for play in plays}.values()),
                PLAYED / claim.name,
                jobs=1,
                limits=Limits(threads=os.cpu_count() or 1),
            )
            found = evidence(claim, targets, summary.records)
        write_submission(
            folder / SUBMISSIONS,
            kind="evaluation",
            name=claim.name,
            authors=claim.authors,
            paper=claim.paper,
            players=[claim.spelling],
            config={},
            records=found,
        )
        _compare(before.board(), whole(folder).board(), claim, console)
        build_committed(folder, console)


def _compare(before: Leaderboard, after: Leaderboard, claim: Claim, console: Console) -> None:
    """Print what a claim changes of its defense's resistance, a line per tier."""
    then, now = (_resistance(board, claim) for board in (before, after))
    for tier in then:
        was, is_ = 100 * then[tier].mean, 100 * now[tier].mean
        console.print(f"{claim.defense}, {tier}: resistance {was:.1f} -> {is_:.1f} %", markup=False)


def _resistance(board: Leaderboard, claim: Claim) -> dict[str, IntervalPart]:
    (suite,) = (suite for suite in board.of(SuiteBoard) if suite.suite == claim.suite)
    return next(row.resistance for row in suite.defenses if row.defense == claim.defense)
