"""Faults that show in the records of a run: in flags, and in what the board's rules make of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergearena.bench import suites
from mergearena.bench.doctor.finding import Finding
from mergearena.bench.games import protection
from mergearena.bench.games.protection import Match, Record
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.roster import Roster
from mergearena.bench.records.protocol import Protocol
from mergearena.bench.records.record import Scores
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.run import Summary
from mergearena.bench.runner.run import run as play_all

if TYPE_CHECKING:
    from mergearena.leaderboard.backdoor.parts import BackdoorBoard, MergerPart
    from mergearena.leaderboard.protection.parts import DefensePart, SuiteBoard

KEY, EXAMPLES = "doctor", 16
NAIVE = "identity > task-arithmetic"
_ALIGNED = "weight-matching > task-arithmetic"
_TRANSPOSED = "planted-transpose > task-arithmetic"
_ERASED = "planted-erases > task-arithmetic"
_RELEASED = "planted-returns-the-released"
_REFERENCES = ("base-only", "donors-only")


@dataclass(frozen=True, kw_only=True)
class Swapped(protection.Play):
    """A play whose judge takes the victim's score for the donor's."""

    def judge(self, result: Path, given: Path | None) -> dict[str, Any]:
        """What the judge says, with the tasks in another order."""
        told = super().judge(result, given)
        shares = told["score"].model_dump()
        swapped = {split: dict(zip(here, reversed(here.values()), strict=True)) for split, here in shares.items()}
        return told | {"score": Scores(**swapped)}


@dataclass(frozen=True)
class Run:
    """A run of sound and planted players."""

    plays: Sequence[protection.Play]
    root: Path
    """The records' folder."""
    limits: Limits
    roster: Roster
    records: Sequence[Record] = ()
    """Of these plays."""
    swapped: Sequence[Record] = ()
    """Of those that hand back a known model, under a scorer that swaps."""

    def again(self, plays: Sequence[protection.Play], root: Path) -> Summary:
        """Run some plays, as the command does."""
        return play_all(plays, root, jobs=min(len(plays), os.cpu_count() or 1), limits=self.limits, roster=self.roster)


def run(suite: str, limits: Limits, roster: Roster, folder: Path) -> Run:
    """Play the first two tasks of a suite against each other: references, and planted beside sound players."""
    one, other = list(suites.get(suite).tasks)[:2]
    held = protocol(suite, (one, other), KEY, EXAMPLES)
    here, there = Match(suite, one, (other,)), Match(suite, other, (one,))
    plays = [
        *_plan(held, [here], ("sound-defense", "planted-base"), [*_REFERENCES, NAIVE]),
        *_plan(held, [here], (), [_ALIGNED, _TRANSPOSED, _ERASED, _RELEASED]),
        *_plan(held, [there], (), _REFERENCES),
    ]
    unique = list({play.id: play for play in plays}.values())
    first = Run(unique, folder / "records", limits, roster)
    return replace(
        first,
        records=_records(first.again(unique, first.root)),
        swapped=_records(first.again([*_swapped(unique)], folder / "swapped")),
    )


def _plan(
    held: Protocol, matches: Sequence[Match], defenses: Iterable[str], attacks: Iterable[str]
) -> list[protection.Play]:
    return protection.plan(held, matches, (0,), [*map(parse_defense, defenses)], [*map(parse_attack, attacks)])


def findings(played: Run) -> Iterator[Finding]:
    """What the board of the run says of the planted players, and what that of a swapped scorer says.

    Every play is one that finishes: if one does not, that is an alarm of its own.
    """
    board, whole = _board(r for r in played.records if r.victim == played.plays[0].victim), _board(played.records)
    failure = next((f"{f.defense} × {f.attack or 'release'} failed: {f.reason}" for f in whole.failures), None)

    for fault, name, planted in (
        ("an aligner that transposes", "aligner-hurts-unprotected", _TRANSPOSED),
        ("an aligner that hands back the base", "task-vector-erased", _ERASED),
    ):
        alarm = flag(board, name, _ALIGNED) or failure
        yield Finding(fault, f"flag: {name}", flag(board, name, planted), alarm)

    said, alarm = (
        unranked(board.defenses, "planted-base", "fidelity"),
        unranked(board.defenses, "sound-defense") or failure,
    )
    yield Finding("a defense that hands back the base", "rule: fidelity", said, alarm)

    said, alarm = _unqualified(board, _RELEASED), _unqualified(board, NAIVE) or failure
    yield Finding("an attack that hands back the released model", "rule: an attack must qualify", said, alarm)

    name = "inconsistent-score"
    said, alarm = flag(_board(played.swapped), name), flag(whole, name) or failure
    yield Finding("a scorer that swaps victim and donor", f"flag: {name}", said, alarm)


def _swapped(plays: Iterable[protection.Play]) -> Iterator[protection.Play]:
    """The plays of known models, under a scorer that swaps."""
    for play in plays:
        if play.attack and play.attack.spelling in _REFERENCES:
            yield Swapped(**{field.name: getattr(play, field.name) for field in fields(play)})
        elif play.attack is None and play.defense == parse_defense("none"):
            yield play


def _records(summary: Summary) -> list[Record]:
    return [record for record in summary.records if isinstance(record, Record)]


def _board(records: Iterable[Record]) -> SuiteBoard:
    from mergearena.leaderboard.board.build import build
    from mergearena.leaderboard.protection.parts import SuiteBoard

    (board,) = build(records).of(SuiteBoard)
    return board


def flag(board: SuiteBoard | BackdoorBoard, name: str, attack: str | None = None) -> str | None:
    """The words of a flag, on an attack or on any, if it is there."""
    return next((f.detail for f in board.flags if f.name == name and attack in (None, f.attack)), None)


def unranked(rows: Iterable[DefensePart | MergerPart], defense: str, because: str = "") -> str | None:
    """Why a defense or merger is not ranked, if it is for such a reason."""
    (row,) = (row for row in rows if row.defense == defense)
    reason = row.unranked_because
    return f"not ranked: {reason}" if reason and because in reason else None


def _unqualified(board: SuiteBoard, attack: str) -> str | None:
    """What is left of an attack on the undefended victim that does not qualify."""
    (cell,) = (cell for cell in board.cells if (cell.defense, cell.attack) == ("none", attack))
    if cell.qualified or cell.recovered is None:
        return None
    return f"recovers {cell.recovered:.0%}, as its donors are left {cell.donor_score or 0:.0%} score"
