"""The runner: take a plan, play what has no record yet, write one record per play.

It knows no player and no rule: playing, judging and what a record holds are the game's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError, BadRecord
from mergearena.bench.games import archive
from mergearena.bench.games.base import Play
from mergearena.bench.players.roster import Roster
from mergearena.bench.records import places
from mergearena.bench.records.record import Record
from mergearena.bench.runner.executors import LOCAL
from mergearena.bench.runner.executors.executor import Setting, Watcher, unwatched
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.provenance import code_of, fine_tuning_flops
from mergearena.bench.runner.scratch import remove
from mergearena.bench.runner.session import SCRATCH, Session, is_blocked

_INSTALLED = Roster()


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
    roster: Roster = _INSTALLED,
    executor: str = LOCAL,
    fresh: bool = False,
    keep: bool = False,
    listener: Listener = lambda record, reused: None,
    watcher: Watcher = unwatched,
) -> Summary:
    """Play a plan and return its records; records already below ``root`` that still hold are reused.

    A record holds if its id, the code of its players, and the versions of suite and scoring are those of the plan,
    unless it only says that a player wanted more time or memory than it had, and now there is more, or that there was
    nothing to start from, and now there is. Every record is written before another play takes the place of its own, so
    a killed run loses at most the plays under way. With ``keep``, what other plays start from stays there for the next
    run, which need not make it again.

    Args:
        plays: what to play.
        root: the records' folder.
        jobs: how many to play at a time.
        limits: of every player.
        roster: who plays beside the installed players.
        executor: where to play.
        fresh: whether to play everything, whatever there is.
        keep: see above.
        listener: told of every record.
        watcher: told of every player's steps.

    Raises:
        ArenaError: another run is writing there, the code of a player is not found, or there is no such executor.
        OSError: a record could not be written (disk full); those written before stay.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / ".lock", timeout=0):
            setting = Setting(limits=limits, roster=roster, jobs=jobs, watcher=watcher)
            summary = _run(plays, root, setting, executor, fresh, listener)
            if not keep:
                remove(root / SCRATCH)
            return summary
    except Timeout:
        raise ArenaError(f"{root}: another run is writing there; wait for it, or choose another --records") from None


def _run(
    plays: Sequence[Play], root: Path, setting: Setting, executor: str, fresh: bool, listener: Listener
) -> Summary:
    summary = Summary()
    held, summary.set_aside = ({}, []) if fresh else _held(root)
    standing = _standing(plays, held, setting.limits)
    for record in (standing[play.id] for play in plays if play.id in standing):
        summary.records.append(record)
        summary.reused += 1
        listener(record, True)
    todo = [play for play in plays if play.id not in standing]
    for suite in {play.protocol.suite for play in todo}:
        fine_tuning_flops(suite)  # before the session's threads: two meters at a time count each other's work
    if todo:
        with Session(root.absolute(), setting, executor) as session:
            for record in session.play(todo, summary.records):
                summary.records.append(record)
                summary.played += 1
                listener(record, False)
            summary.settled = session.settled
    return summary


def _standing(plays: Sequence[Play], held: Mapping[str, Record], limits: Limits) -> dict[str, Record]:
    """Play -> its record, for those that need not be played."""
    found = {play.id: held[play.id] for play in plays if play.id in held and _stands(held[play.id], play, limits)}
    failed = {id_ for id_, record in found.items() if record.status != "ok"}
    freed = {p.id for p in plays if p.id in failed and is_blocked(found[p.id]) and p.needs and p.needs.id not in failed}
    return {id_: record for id_, record in found.items() if id_ not in freed}


def _stands(record: Record, play: Play, limits: Limits) -> bool:
    """Whether a play would come to the same again, all that it starts from being as it was."""
    made, suite = record.provenance, suites.get(play.protocol.suite)
    if made.code != code_of(play) or (made.suite_version, made.scoring) != (suite.version, play.scoring):
        return False
    lacked = {"timeout": (made.seconds, limits.seconds), "memory": (made.memory_gib, limits.memory_gib)}
    before, now = lacked.get(record.status, (1, 0))
    return before is not None and now <= before


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
