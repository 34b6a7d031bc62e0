"""Official records: which records of a run may become official, and what they change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mergearena.bench import suites
from mergearena.bench.errors import BadRecord
from mergearena.bench.games import archive
from mergearena.bench.games.game import games
from mergearena.bench.players.code import families_of, identity_of
from mergearena.bench.players.registry import registry
from mergearena.bench.records import places, text
from mergearena.bench.records.official import EXAMPLES, KEY
from mergearena.bench.records.record import Record
from mergearena.leaderboard.archive.survey import OFFICIAL, Problem

OURS = ("mergearena.attacks.", "mergearena.defenses.")
"""The packages whose players play officially."""


@dataclass
class Changes:
    """What publishing would do."""

    added: list[Record] = field(default_factory=list)
    replaced: list[tuple[Record, Record]] = field(default_factory=list)
    """Before and after."""
    unchanged: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def written(self) -> list[Record]:
        """Those that publishing writes."""
        return [*self.added, *(after for _, after in self.replaced)]


def plan(sources: Sequence[Path], folder: Path) -> Changes:
    """Compare the records below some folders with the official ones of a board; nothing is written.

    A record that may not become official is a problem: it is damaged, was made with code that is not this project's
    as it stands, under another protocol, or from other models than the other official records.
    """
    changes = Changes()
    root = folder / OFFICIAL
    models = {name: digest for path in places.files(root) for name, digest in _models(archive.read(path))}
    sources_of: dict[str, Path] = {}
    for path in (path for source in sources for path in places.files(source)):
        try:
            record = archive.read(path)
        except BadRecord as error:
            changes.problems.append(Problem(path, error.problem, "delete the file and run again to replay it"))
            continue
        if (first := sources_of.setdefault(record.id, path)) != path:
            changes.problems.append(Problem(path, f"it is the same play as {first}", "publish one of the two"))
            continue
        changes.problems += _unofficial(path, record, models)
        models |= _models(record)
        _compare(record, places.path_of(record, root), changes)
    return changes


def publish(changes: Changes, folder: Path) -> None:
    """Write what is added and replaced to a board's official records, each atomically."""
    for record in changes.written:
        archive.write(record, folder / OFFICIAL)


def _compare(record: Record, target: Path, changes: Changes) -> None:
    if not target.exists():
        changes.added.append(record)
    elif target.read_text(encoding="utf-8") == text.to_text(record.model_dump(mode="json")):
        changes.unchanged.append(record)
    else:
        changes.replaced.append((archive.read(target), record))


def _models(record: Record) -> Iterator[tuple[tuple[str, str], str]]:
    """((suite, model), SHA-256) of the models that it was played with."""
    return (((record.suite, name), digest) for name, digest in record.provenance.checkpoints.items())


def _unofficial(path: Path, record: Record, models: dict[tuple[str, str], str]) -> Iterator[Problem]:
    """Why a record may not become official."""
    ours = _code(record.suite if record.suite in suites.names() else None)
    for player, code in record.provenance.code.items():
        if player not in ours:
            yield Problem(path, f"{player!r} is no player of this project", "submit it as a folder of its own")
        elif ours[player] != code:
            yield Problem(path, f"the code of {player!r} has changed since", "run the same command again to replay it")
    for name, value, official in (("key", record.key, KEY), ("examples", record.examples, EXAMPLES)):
        if value != official:
            yield Problem(path, f"its {name} is {value}, not {official}", "run it again under the official protocol")
    if record.round:
        yield Problem(path, "it is later evidence", "add it with `mergearena leaderboard add`")
    if record.track not in games.own:
        yield Problem(path, f"{record.track!r} is no game of this project", "publish records of its games alone")
    if record.suite not in suites.names():
        yield Problem(path, f"{record.suite!r} is no suite of this project", "publish records of its suites alone")
    for (_, name), digest in _models(record):
        if models.get((record.suite, name), digest) != digest:
            what = f"its model {name!r} is not that of the other official records of {record.suite}"
            yield Problem(path, what, "publish a suite's records of one build of its models, after deleting the others")


@cache
def _code(suite: str | None) -> dict[str, str]:
    """Player of this project -> identity of its code on a suite, or on one that is not the project's."""
    families = families_of(suite) if suite else ()
    ours = (player for player in registry.players() if player.__module__.startswith(OURS))
    return {player.name: identity_of(player, families) for player in ours}
