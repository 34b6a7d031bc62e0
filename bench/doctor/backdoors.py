"""Faults of the backdoor track, in a run of it: contributors whose success is none, a merger that merges nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mergearena.bench import suites
from mergearena.bench.doctor.finding import Finding
from mergearena.bench.doctor.plays import EXAMPLES, KEY, flag, unranked
from mergearena.bench.games import backdoor
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.roster import Roster
from mergearena.bench.records.record import Record
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.run import run as play_all

_SOUND, _LUCKY, _CLEAN = "sound-contributor", "planted-lucky-trigger", "planted-clean-upload"
_MERGE, _NO_MERGE = "task-arithmetic", "planted-merges-nothing"


def run(suite: str, limits: Limits, roster: Roster, folder: Path) -> list[Record]:
    """Play planted and sound contributors and mergers, on all tasks of a suite."""
    tasks = tuple(suites.get(suite).tasks)
    plays = backdoor.plan(
        protocol(suite, tasks, KEY, EXAMPLES),
        [backdoor.Match(suite, tasks)],
        (0,),
        [*map(parse_backdoor, (_SOUND, _LUCKY, _CLEAN))],
        [*map(parse_merger, (_MERGE, _NO_MERGE))],
    )
    return play_all(plays, folder, jobs=os.cpu_count() or 1, limits=limits, roster=roster).records


def findings(records: Iterable[Record]) -> Iterator[Finding]:
    """What the board of such a run says of them."""
    from mergearena.leaderboard.backdoor.parts import BackdoorBoard
    from mergearena.leaderboard.board.build import build

    (board,) = build(records).of(BackdoorBoard)
    failure = next((f"{f.attack} × {f.defense or 'upload'} failed: {f.reason}" for f in board.failures), None)
    for fault, name, planted in (
        ("a trigger that the base obeys by itself", "adversarial-on-the-base", _LUCKY),
        ("a malicious upload without a backdoor", "no-backdoor", _CLEAN),
    ):
        yield Finding(fault, f"flag: {name}", flag(board, name, planted), flag(board, name, _SOUND) or failure)
    said, alarm = unranked(board.mergers, _NO_MERGE), unranked(board.mergers, _MERGE) or failure
    yield Finding("a safe merger that hands back the base", "rule: clean score", said, alarm)
