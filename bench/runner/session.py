"""One run's processes and scratch files: what can start is started, what finished is recorded."""

from __future__ import annotations

import platform
import shutil
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

from mergearena.bench import suites
from mergearena.bench.games import archive
from mergearena.bench.games.base import Play
from mergearena.bench.records.record import Provenance, Record
from mergearena.bench.runner.executors.limits import Limits, Watcher
from mergearena.bench.runner.executors.local import Slot
from mergearena.bench.runner.executors.result import Outcome, failure
from mergearena.bench.runner.provenance import code_of, fine_tuning_flops, packages
from mergearena.bench.runner.scratch import remove, scratch_folder
from mergearena.bench.runner.store import Store

SCRATCH = ".scratch"


class Session:
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

    def __enter__(self) -> Session:
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
            metric=suites.get(play.protocol.suite).metric,
            seed=play.seed,
            key=play.protocol.key,
            examples=play.protocol.examples,
            status=outcome.status,
            reason=outcome.reason,
            fine_tuning_flops=fine_tuning_flops(play.protocol.suite),
            provenance=Provenance(
                code=code_of(play),
                checkpoints={name: play.protocol.checkpoints[name] for name in ("base", *play.tasks)},
                packages=packages(),
                python=platform.python_version(),
                device="cpu",
                threads=self._limits.threads,
                date=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
            **outcome.fields,
        )

    def _write(self, record: Record) -> Record:
        archive.write(record, self._root)
        return record
