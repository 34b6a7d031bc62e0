"""One run's executor and scratch files: what can start is started, what finished is recorded."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mergearena.bench import suites
from mergearena.bench.games import archive
from mergearena.bench.games.base import Play
from mergearena.bench.records.record import Provenance, Record
from mergearena.bench.runner.agenda import Agenda
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.executors.result import Outcome, failure
from mergearena.bench.runner.provenance import code_of, fine_tuning_flops, packages
from mergearena.bench.runner.workplace import Workplace

SCRATCH = ".scratch"
_NOTHING = "there is nothing to start from"


def is_blocked(record: Record) -> bool:
    """Whether a play failed only because the one that it starts from did."""
    return record.status == "failed" and (record.reason or "").startswith(_NOTHING)


class Session:
    """The executor and the scratch files of one run."""

    def __init__(self, root: Path, setting: Setting, executor: str) -> None:
        self._root = root
        self._setting = setting
        self._executor = executor
        self._place = Workplace(root / SCRATCH, replace(setting, hidden=(*setting.hidden, root)), executor)
        self.settled = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self._place.__exit__(*error)

    def play(self, todo: Sequence[Play], done: Sequence[Record]) -> Iterable[Record]:
        """Play everything, in an order in which what a play needs is there; yield records as they finish.

        The caller adds what is yielded to ``done``.
        """
        todo = self._without_settled(todo, done)
        failed = {record.id for record in done if record.status != "ok"}
        again = self._again(todo, failed)
        agenda = Agenda([*again.values(), *todo], failed)
        self._place.store.prepare([*again.values(), *todo])  # here, since threads would share what suites compute with
        running: dict[Future[Record], Play] = {}
        with ThreadPoolExecutor(self._setting.jobs) as pool:
            try:
                while agenda or running:
                    while len(running) < self._setting.jobs and (play := agenda.next()):
                        if agenda.is_blocked(play):
                            agenda.finish(play, failed=True)
                            yield self._write(self._blocked(play))
                        elif play.after is not None and play.settled(done):
                            agenda.finish(play)
                            self.settled += 1
                        else:
                            running[pool.submit(self._one, play, play.id not in again)] = play
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        play, record = running.pop(future), future.result()
                        agenda.finish(play, failed=record.status != "ok")
                        if play.id not in again:
                            yield record
            finally:
                # On an error or an interrupt: do not wait for plays that may run for minutes; no record is written.
                if running:
                    self._place.abort()

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

    def _again(self, todo: Sequence[Play], failed: set[str]) -> dict[str, Play]:
        """Plays whose results a resumed run needs again, though their records stand."""
        wanted = {r.id: r for play in todo if (r := play.needs) is not None and r.id not in failed}
        unfinished = {play.id for play in todo}
        return {
            id_: play
            for id_, play in wanted.items()
            if id_ not in unfinished and not self._place.store.result(id_).exists()
        }

    def _one(self, play: Play, keep: bool) -> Record:
        """Run one play, and write its record unless it only makes a result again."""
        with self._place.play(play) as outcome:
            record = self._record(play, outcome)
            if keep:
                self._write(record)
            if play.needed and outcome.result is not None:
                self._place.store.keep(play, outcome.result)
            return record

    def _blocked(self, play: Play) -> Record:
        assert play.needs is not None
        return self._record(play, failure("failed", f"{_NOTHING}: {play.needs.title} failed"))

    def _record(self, play: Play, outcome: Outcome) -> Record:
        suite, limits = suites.get(play.protocol.suite), self._setting.limits
        return play.record(
            id=play.id,
            suite=play.protocol.suite,
            metric=suite.metric,
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
                threads=limits.threads,
                seconds=limits.seconds,
                memory_gib=limits.memory_gib,
                executor=self._executor,
                suite_version=suite.version,
                scoring=play.scoring,
                date=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
            **outcome.fields,
        )

    def _write(self, record: Record) -> Record:
        archive.write(record, self._root)
        return record
