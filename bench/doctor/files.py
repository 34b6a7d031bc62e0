"""Faults of files: splits that leak, and what was damaged, edited or left behind between a run and the board."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.doctor.finding import Finding
from mergearena.bench.doctor.plays import Run
from mergearena.bench.games import archive
from mergearena.bench.games.protection import Record
from mergearena.bench.suites import Split, Suite, integrity
from mergearena.bench.suites.embedded.loading import ZOO
from mergearena.bench.suites.splits import leaks


def findings(played: Run, suite: str, folder: Path) -> Iterator[Finding]:
    """Plant them in copies below ``folder``, and in the records of a run."""
    yield leak(suites.get(suite))
    yield damage(folder / "shipped")
    yield other_code(played)
    yield from board(played.records, folder / "board")


def leak(suite: Suite) -> Finding:
    """One test example of a task is one of its training examples."""
    task = next(iter(suite.tasks))
    leaky, load = copy.copy(suite), suite.load

    def leaking(name: str, split: Split) -> tuple[Tensor, Tensor]:
        if (name, split) != (task, "test"):
            return load(name, split)
        inputs, labels = load(task, "train")
        return inputs[:1], labels[:1]

    leaky.load = leaking  # type: ignore[method-assign,assignment]
    return Finding("a split that leaks: training in test", "zoo verify", _first(leaks(leaky)), _first(leaks(suite)))


def damage(folder: Path) -> Finding:
    """One bit of one model is another, in a copy below ``folder``."""
    (folder / "zoo").mkdir(parents=True)
    model = Path(shutil.copy(ZOO / "base.safetensors", folder / "zoo"))
    integrity.write_sums(folder)
    alarm = _first(integrity.differing(folder))
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    return Finding("a bit flipped in a shipped model", "SHA256SUMS", _first(integrity.differing(folder)), alarm)


def other_code(played: Run) -> Finding:
    """A record of a run is as if its player had been changed since."""
    record = next(r for r in played.records if r.attack is None and r.defense == "none")
    (play,) = (play for play in played.plays if play.id == record.id)

    def replayed() -> str | None:
        summary = played.again([play], played.root)
        return f"{summary.played} of {len(summary.records)} played again" if summary.played else None

    alarm = replayed()
    code = dict.fromkeys(record.provenance.code, "0" * 64)
    archive.write(
        record.model_copy(update={"provenance": record.provenance.model_copy(update={"code": code})}), played.root
    )
    return Finding("a stale record: its code has changed", "run: reuses no such record", replayed(), alarm)


def board(records: Iterable[Record], folder: Path) -> Iterator[Finding]:
    """A board of the records is built in ``folder``; then one of them is edited, and then it is taken out."""
    from mergearena.leaderboard.archive.check import check
    from mergearena.leaderboard.archive.rebuild import rebuild

    paths = [archive.write(record, folder / "records") for record in records if record.status == "ok"]
    rebuild(folder)
    alarm = _first(problem.what for problem in check(folder))

    victim = paths[0]
    fields = json.loads(victim.read_bytes())
    task, share = next(iter(fields["score"]["test"].items()))
    fields["score"]["test"][task] = share / 2
    victim.write_text(json.dumps(fields), encoding="utf-8")
    said = _first(problem.what for problem in check(folder) if problem.path == victim)
    yield Finding("a score edited in a record", "leaderboard check", said, alarm)

    victim.unlink()
    said = _first(f"{problem.path.name}: {problem.what}" for problem in check(folder))
    yield Finding("a stale board: a record was taken out", "leaderboard check", said, alarm)


def _first(said: Iterable[object]) -> str | None:
    return next(map(str, said), None)
