"""The runner: take a plan, play what has no record yet, write one record per play.

It knows no player and no rule: playing, judging and what a record holds are the game's.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue

from filelock import FileLock, Timeout

from bench import records, suites
from bench.errors import ArenaError, BadRecord
from bench.executors.local import Limits, Slot, Watcher, remove, scratch_folder
from bench.executors.result import Outcome, failure
from bench.executors.store import Store
from bench.games.base import Play, fine_tuning_flops
from bench.records import Provenance, Record

PACKAGES = ("mergearena", "torch", "numpy", "scipy", "open_clip_torch", "transformers", "safetensors")
SCRATCH = ".scratch"


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
            summary = _run(plays, root, _Session(root, jobs, limits, watcher), fresh, listener)
            if not keep:
                remove(root / SCRATCH)
            return summary
    except Timeout:
        raise ArenaError(f"{root}: another run is writing there; wait for it, or choose another --records") from None


def _run(plays: Sequence[Play], root: Path, session: _Session, fresh: bool, listener: Listener) -> Summary:
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
        _fine_tuning_flops(suite)  # before the slots' threads: two meters at a time count each other's work
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
    for path in records.files(root):
        try:
            record = records.read(path)
        except BadRecord:
            aside = path.with_suffix(".json.damaged")
            path.rename(aside)
            damaged.append(aside)
        else:
            held[record.id] = record
    return held, damaged


class _Session:
    """The processes and scratch files of one run."""

    def __init__(self, root: Path, jobs: int, limits: Limits, watcher: Watcher) -> None:
        self._root = root
        self._scratch = root.absolute() / SCRATCH
        self._store = Store(self._scratch)
        self._limits = limits
        self._jobs = jobs
        self._slots: SimpleQueue[Slot] = SimpleQueue()
        fenced = replace(limits, hidden=(*limits.hidden, root))
        self._all_slots = [Slot(fenced, watcher) for _ in range(jobs)]
        for slot in self._all_slots:
            self._slots.put(slot)
        self.settled = 0

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self._all_slots:
            slot.close()

    def play(self, todo: Sequence[Play], done: Sequence[Record]) -> Iterable[Record]:
        """Play everything, in an order in which what a play needs is there; yield records as they finish.

        The caller adds what is yielded to ``done``.
        """
        todo = self._without_settled(todo, done)
        failed = {record.id for record in done if record.status != "ok"}
        # Plays whose results a resumed run needs again, though their records stand.
        wanted = {r.id: r for play in todo if (r := play.needs) is not None and r.id not in failed}
        unfinished = {play.id for play in todo}
        again = {id_ for id_ in wanted if id_ not in unfinished and not self._store.result(id_).exists()}
        unfinished |= again
        waiting = deque([*(wanted[id_] for id_ in wanted if id_ in again), *todo])
        running: dict[Future[Record], Play] = {}
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                while waiting or running:
                    for play in list(waiting):
                        if len(running) >= self._jobs:
                            break
                        needs = play.needs
                        if (needs is not None and needs.id in unfinished) or not unfinished.isdisjoint(
                            play.after or ()
                        ):
                            continue
                        waiting.remove(play)
                        if needs is not None and needs.id in failed:
                            unfinished.discard(play.id)
                            yield self._write(
                                self._record(
                                    play, failure("failed", f"there is nothing to start from: {needs.title} failed")
                                )
                            )
                        elif play.after is not None and play.settled(done):
                            unfinished.discard(play.id)
                            self.settled += 1
                        else:
                            running[pool.submit(self._one, play, play.id not in again)] = play
                    if not running:
                        continue
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        play = running.pop(future)
                        record = future.result()
                        unfinished.discard(play.id)
                        if record.status != "ok":
                            failed.add(play.id)
                        if play.id not in again:
                            yield record
            finally:
                # On an error or an interrupt: do not wait for plays that may run for minutes; no record is written.
                for slot in self._all_slots if running else ():
                    slot.abort()

    def _without_settled(self, todo: Sequence[Play], done: Sequence[Record]) -> list[Play]:
        """Leave out the steps that a resumed run knows not to need, so that nothing is made again for them."""
        unfinished = {play.id for play in todo}
        needed = []
        for play in todo:
            if play.after is not None and unfinished.isdisjoint(play.after) and play.settled(done):
                unfinished.discard(play.id)
                self.settled += 1
            else:
                needed.append(play)
        return needed

    def _one(self, play: Play, keep: bool) -> Record:
        """Run one play in a free slot, and write its record unless it only makes a result again."""
        slot = self._slots.get()
        out = scratch_folder(self._scratch)
        try:
            outcome = slot.play(play, self._store.given(play), self._store.files(play), out)
            record = self._record(play, outcome)
            if keep:
                self._write(record)
            if play.needed and outcome.result is not None:
                shutil.move(outcome.result, self._store.result(play.id))
            return record
        finally:
            remove(out)
            self._slots.put(slot)

    def _record(self, play: Play, outcome: Outcome) -> Record:
        return play.record(
            id=play.id,
            suite=play.protocol.suite,
            seed=play.seed,
            key=play.protocol.key,
            examples=play.protocol.examples,
            status=outcome.status,
            reason=outcome.reason,
            fine_tuning_flops=_fine_tuning_flops(play.protocol.suite),
            provenance=Provenance(
                code=code_of(play),
                checkpoints={name: play.protocol.checkpoints[name] for name in ("base", *play.tasks)},
                packages=_packages(),
                python=platform.python_version(),
                device="cpu",
                threads=self._limits.threads,
                date=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
            **outcome.fields,
        )

    def _write(self, record: Record) -> Record:
        records.write(record, self._root)
        return record


def code_of(play: Play) -> dict[str, str]:
    """Player -> SHA-256 of the source file it is defined in."""
    return {player.name: player.source or _source_hash(type(player).__module__) for player in play.players}


@cache
def _source_hash(module: str) -> str:
    path = getattr(sys.modules.get(module), "__file__", None)
    return hashlib.sha256(Path(path).read_bytes() if path else module.encode()).hexdigest()


@cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@cache
def _fine_tuning_flops(suite: str) -> int:
    return fine_tuning_flops(suites.get(suite))
