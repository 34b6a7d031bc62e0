"""Faults of single players, which the gates of ``mergearena submit check`` are to catch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mergearena.bench.doctor.finding import Finding
from mergearena.bench.players.roster import Roster
from mergearena.bench.players.stand_in import Declaration
from mergearena.bench.runner.confinement import confine
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.workplace import Workplace
from mergearena.bench.submit import gates, runs
from mergearena.bench.submit.roles import entry_of
from mergearena.bench.submit.runs import Runs
from mergearena.bench.submit.verdicts import Gate

_FAMILY = "open_clip"


@dataclass(frozen=True)
class _Fault:
    fault: str
    player: str
    gate: str
    """The name of the gate that is to fail."""
    sound: str = "sound-defense"


FAULTS = (
    _Fault("a defense that ignores its seed", "planted-ignores-its-seed", "gives another result for another seed"),
    _Fault("a defense that cannot be repeated", "planted-unrepeatable", "gives the same result for the same seed"),
    _Fault("a defense that changes its input in place", "planted-writes-its-input", "leaves its inputs untouched"),
    _Fault("a defense that returns NaN", "planted-nan", "returns the same keys, shapes and dtypes, all finite"),
    _Fault("a defense whose claim to keep the function is false", "planted-claim", "preserves the function"),
    _Fault("a defense that forges its score", "planted-forges-its-score", "keeps to the limits"),
    _Fault(
        "a defense that asks for the test split",
        "planted-reads-the-test-split",
        "keeps to its tier and to what it is shown",
    ),
    _Fault(
        "a data-free merge that reads labels",
        "planted-reads-labels",
        "keeps to its tier and to what it is shown",
        "sound-merge",
    ),
    _Fault(
        "a merge that drops one model", "planted-drops-a-model", "depends on every model that it merges", "sound-merge"
    ),
)
BY_THE_KERNEL = (
    _Fault(
        "a defense that opens another's model file",
        "planted-opens-a-model",
        "keeps to its tier and to what it is shown",
    ),
)


def paces(path: Path, players: Sequence[Declaration], folder: Path) -> dict[str, Runs]:
    """Put every planted player that is to be caught here, and the sound ones, through the paces on a toy.

    Args:
        path: the file that registers them.
        players: those of the file; stand-ins of theirs must be registered.
        folder: where to leave scratch files.

    Returns:
        Player -> what it did.
    """
    names = dict.fromkeys(name for fault in _planted() for name in (fault.sound, fault.player))
    known = {player.name: entry_of(player) for player in players}
    with Workplace(folder, Setting(limits=runs.TOYS, roster=Roster((path,), tuple(players)))) as place:
        return {name: runs.paces(place, known[name], (_FAMILY,)) for name in names}


def findings(found: Mapping[str, Runs]) -> Iterator[Finding]:
    """What the gates say of them."""
    for fault in _planted():
        said = [gate.detail for gate in _failed(found[fault.player]) if gate.name == fault.gate]
        alarms = [f"{gate.name}: {gate.detail}" for gate in _failed(found[fault.sound])]
        yield Finding(fault.fault, f"gate: {fault.gate}", next(iter(said), None), next(iter(alarms), None))


def _planted() -> tuple[_Fault, ...]:
    """What the kernel alone can prevent is planted where it can."""
    return (*FAULTS, *(BY_THE_KERNEL if confine.supported() is None else ()))


def _failed(found: Runs) -> Iterator[Gate]:
    """The failed gates, without the name of the one family that was played."""
    for gate in gates.judged(found):
        if gate.status == "failed":
            yield replace(gate, detail=gate.detail.removeprefix(f"{_FAMILY}: "))
