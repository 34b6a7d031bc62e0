"""The runner: take a plan, play what has no record yet, write one record per play.

It knows no player and no rule: playing, judging and what a record holds are the game's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mergearena.bench.errors import ArenaError, BadRecord
from mergearena.bench.games import archive
from mergearena.bench.games.base import Play
from mergearena.bench.records import places
from mergearena.bench.records.record import Record
from mergearena.bench.runner.executors.limits import Limits, Watcher
from mergearena.bench.runner.provenance import code_of, fine_tuning_flops
from mergearena.bench.runner.scratch import remove
from mergearena.bench.runner.session import SCRATCH, Session


@dataclass
class Summary:
    """What a run did."""

    records: list[Record] = field(default_factory=list)
    reused: int = 0
    played: int = 0
    settled: int = 0
    """Steps of cascades that were not needed."""
    set_aside: list[Path] = field(default_factory=list)
    """Damaged record files that were renamed and replayed."""

    @property
    def failures(self) -> list[Record]:
        """The plays that gave no result."""
        return [record for record in self.records if record.status != "ok"]


Listener = Callable[[Record, bool], None]
"""Told of every record as it comes, and whether it was reused."""


def run(
    plays: Sequence[Play],
    root: Path,
    *,
    jobs: int,
    limits: Limits,
    fresh: bool = False,
    keep: bool = False,
    listener: Listener = lambda record, reused: None,
    watcher: Watcher = lambda play, steps: None,
) -> Summary:
    """Play a plan and return its records; records already below ``root`` that still hold are reused.

    A record holds if its id and the source of its players are those of the plan. Every record is written before
    the next play of its slot starts, so a killed run loses at most the plays under way. With ``keep``, what other plays
    start from stays there for the next run, which need not make it again.

    Raises:
        ArenaError: another run is writing there.
        OSError: a record could not be written (disk full); those written before stay.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / ".lock", timeout=0):
            summary = _run(plays, root, Session(root, jobs, limits, watcher), fresh, listener)
            if not keep:
                remove(root / SCRATCH)
            return summary
    except Timeout:
        raise ArenaError(f"{root}: another run is writing there; wait for it, or choose another --records") from None


def _run(plays: Sequence[Play], root: Path, session: Session, fresh: bool, listener: Listener) -> Summary:
    summary = Summary()
    held, summary.set_aside = ({}, []) if fresh else _held(root)
    todo: list[Play] = []
    for play in plays:
        record = held.get(play.id)
        if record is not None and record.provenance.code == code_of(play):
            summary.records.append(record)
            summary.reused += 1
            listener(record, True)
        else:
            todo.append(play)
    for suite in {play.protocol.suite for play in todo}:
        fine_tuning_flops(suite)  # before the slots' threads: two meters at a time count each other's work
    if todo:
        with session:
            for record in session.play(todo, summary.records):
                summary.records.append(record)
                summary.played += 1
                listener(record, False)
            summary.settled = session.settled
    return summary


def _held(root: Path) -> tuple[dict[str, Record], list[Path]]:
    """The readable records by id; damaged files are renamed to ``*.damaged``, so that nothing is lost."""
    held, damaged = {}, []
    for path in places.files(root):
        try:
            record = archive.read(path)
        except BadRecord:
            aside = path.with_suffix(".json.damaged")
            path.rename(aside)
            damaged.append(aside)
        else:
            held[record.id] = record
    return held, damaged
