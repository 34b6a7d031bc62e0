"""The gates that a submitted player must pass, each with what was found and what to do about it.

Every run of submitted code happens in a player's process; here is only what those processes left behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from bench import checkpoints, presets, suites
from bench.declaration import Declaration, standing_in
from bench.errors import ArenaError
from bench.executors.confinement import supported
from bench.executors.local import Limits, Slot, remove, scratch_folder
from bench.executors.result import Outcome
from bench.executors.store import Store
from bench.flags import LOGIT_TOLERANCE
from bench.games import protection
from bench.games.base import Files, Play, protocol
from bench.scoring import MINIMUM_FIDELITY
from bench.submit import toys
from bench.submit.inspection import Found, Inspection
from bench.submit.seal import Seal
from bench.submit.trial import EXAMPLES, trial

TOYS = Limits(seconds=30.0, memory_gib=2.0)
"""What a player may use on a toy, where an honest one takes a second."""
_KEYS = ("check", "another key")

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Gate:
    """One line of the check."""

    name: str
    status: Status
    detail: str = ""
    remedy: str = ""


@dataclass
class _Runs:
    """What a player did: (family, run) -> outcome, and the model it returned where it returned one."""

    player: Declaration
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    prints: dict[tuple[str, str], str] = field(default_factory=dict)

    def failing(self, *errors: str, statuses: tuple[str, ...] = ()) -> tuple[str, str] | None:
        """(family, reason) of the first outcome that ended in one of these ways."""
        for (family, _), outcome in self.outcomes.items():
            if outcome.error in errors or outcome.status in statuses:
                return family, outcome.reason or ""
        return None


_TIER, _FORM, _INPUTS = ("TierViolation",), ("BadCheckpoint",), ("WroteInput",)
_BARRED = ("PermissionError",)


def check(path: Path, name: str | None) -> Iterator[Gate]:
    """Run the gates one after the other; those that cannot be asked because an earlier one failed are left out.

    Raises:
        ArenaError: there is no such file.
    """
    if not path.is_file():
        raise ArenaError(f"{path}: no such file; `mergearena submit new defense NAME` writes one to start from")
    seal = Seal()
    players = yield from _imports(path)
    player = None if players is None else (yield from _registered(players, name, path))
    if player is not None:
        yield _documented(player)
        slot = Slot(replace(TOYS, plugins=(path,), declared=(player,)), lambda job, steps: None)
        try:
            with tempfile.TemporaryDirectory() as scratch, standing_in(player):
                yield from _played(slot, player, Path(scratch))
        finally:
            slot.close()
    yield _sealed(seal)


def inspect(path: Path) -> tuple[tuple[Declaration, ...] | None, str]:
    """The players that a file registers, or None and why it could not be imported. It is imported in a process of its
    own.
    """
    slot = Slot(replace(TOYS, plugins=(path,)), lambda job, steps: None)
    with tempfile.TemporaryDirectory() as out:
        outcome = slot.run(Inspection(path.absolute()), Files(), Path(out))
    if outcome.status != "ok":
        return None, outcome.reason or ""
    return Found(players=outcome.fields["players"]).players, ""


def _imports(path: Path) -> Generator[Gate, None, tuple[Declaration, ...] | None]:
    players, reason = inspect(path)
    title = "imports alone, in a process of its own"
    if players is None:
        remedy = "import what it needs at its top, from this project, its dependencies or the standard library"
        yield Gate(title, "failed", reason, remedy)
    else:
        yield Gate(title, "passed")
    return players


def _registered(
    players: tuple[Declaration, ...], name: str | None, path: Path
) -> Generator[Gate, None, Declaration | None]:
    title = "registers a player under a name of its own"
    names = ", ".join(player.name for player in players)
    chosen = [player for player in players if name in (None, player.name)]
    if len(chosen) == 1:
        (player,) = chosen
        yield Gate(title, "passed", f"{player.kind} {player.name}")
        return player
    if not players:
        yield Gate(title, "failed", "it registers none", 'put @defenses.register("name") or a like one over it')
    elif not chosen:
        yield Gate(title, "failed", f"there is no {name!r}", f"it registers: {names}")
    else:
        yield Gate(title, "failed", f"it registers several: {names}", f"say which, as in {path.name}:{players[0].name}")
    return None


def _documented(player: Declaration) -> Gate:
    title = "config documented"
    required = [option.name for option in player.options if option.required]
    silent = [o.name for o in player.options if not o.meaning and o.name not in player.doc]
    if required:
        return Gate(title, "failed", f"{required[0]} has no default", "give every option the value you recommend")
    if silent:
        remedy = "write a docstring below the field, or name the option in the function's docstring"
        return Gate(title, "failed", f"{silent[0]} is explained nowhere", remedy)
    return Gate(title, "passed", ", ".join(o.name for o in player.options) or "no options")


def _played(slot: Slot, player: Declaration, folder: Path) -> Iterator[Gate]:
    runs = _Runs(player)
    store = Store(folder)
    families = tuple(toys.FAMILIES)
    for family in families:
        _run(slot, store, runs, family, "first", _KEYS[0], 0)
        if runs.failing(statuses=("timeout", "crashed", "memory")):
            break
    if all(outcome.status == "ok" for outcome in runs.outcomes.values()):
        _run(slot, store, runs, families[0], "again", _KEYS[0], 0)
        _run(slot, store, runs, families[0], "other seed", _KEYS[1], 1)
    yield from (_runs_everywhere(runs), _form(runs), _tier(runs), _limits(runs), _inputs(runs))
    if any(outcome.status != "ok" for outcome in runs.outcomes.values()):
        return
    yield from (_repeats(runs), _seeds(runs))
    if player.kind == "defense":
        yield _function(runs)
        yield _fidelity(slot, store, player)


def _run(slot: Slot, store: Store, runs: _Runs, family: str, run: str, key: str, seed: int) -> None:
    play = trial(runs.player, toys.suite_name(family), toys.TASKS, key, seed)
    if play.needs is not None:  # an attack meets the victim as it is
        checkpoints.save(suites.get(play.protocol.suite).finetuned(play.tasks[0]), store.result(play.needs.id))
    runs.outcomes[family, run], runs.prints[family, run] = _once(slot, store, play)


def _once(slot: Slot, store: Store, play: Play) -> tuple[Outcome, str]:
    """Play, and the fingerprint of what was returned."""
    out = scratch_folder(store.folder)
    try:
        outcome = slot.play(play, store.given(play), store.files(play), out)
        returned = {} if outcome.result is None else checkpoints.load(outcome.result, dtype=None)
        return outcome, checkpoints.fingerprint(returned)
    finally:
        remove(out)


def _runs_everywhere(runs: _Runs) -> Gate:
    title = "runs on a toy of each architecture family"
    for (family, _), outcome in runs.outcomes.items():
        if outcome.status == "failed" and outcome.error not in (*_TIER, *_FORM, *_INPUTS, *_BARRED):
            remedy = "name no parameter: view.architecture lists MLPs, attention layers and norms of any model"
            return Gate(title, "failed", f"{family}: {outcome.reason}", remedy)
    if not any(outcome.status == "ok" for outcome in runs.outcomes.values()):
        return Gate(title, "skipped", "see below")
    return Gate(title, "passed", ", ".join(toys.FAMILIES))


def _form(runs: _Runs) -> Gate:
    title = "returns the same keys, shapes and dtypes, all finite"
    if found := runs.failing(*_FORM):
        return Gate(title, "failed", ": ".join(found), "start from dict(victim) and replace tensors in it")
    return _if_any(runs, title)


def _tier(runs: _Runs) -> Gate:
    title = "keeps to its tier and to what it is shown"
    if found := runs.failing(*_TIER):
        return Gate(title, "failed", ": ".join(found), 'declare what it reads, as in tier="labelled"')
    if found := runs.failing(*_BARRED):
        return Gate(title, "failed", ": ".join(found), "read through the view, and write to no file")
    gate = _if_any(runs, title)
    reads = "" if runs.player.kind in ("defense", "backdoor") else str(runs.player.tier)
    return replace(gate, detail=gate.detail or reads)


def _limits(runs: _Runs) -> Gate:
    title = "keeps to the limits"
    if found := runs.failing(statuses=("timeout", "memory", "crashed")):
        remedy = (
            f"on a toy, {TOYS.seconds:g} s, {TOYS.memory_gib:g} GiB and one process are plenty; return, do not exit"
        )
        return Gate(title, "failed", ": ".join(found), remedy)
    gate = _if_any(runs, title)
    spent = [outcome.fields["cost"] for outcome in runs.outcomes.values() if outcome.status == "ok"]
    if gate.status != "passed":
        return gate
    return replace(gate, detail=f"at most {max(cost.wall_seconds for cost in spent):.1f} s on a toy")


def _inputs(runs: _Runs) -> Gate:
    title = "leaves its inputs untouched"
    if found := runs.failing(*_INPUTS):
        return Gate(title, "failed", ": ".join(found), "clone what you change")
    return _if_any(runs, title)


def _if_any(runs: _Runs, title: str) -> Gate:
    """Passed if some run finished."""
    finished = any(outcome.status == "ok" for outcome in runs.outcomes.values())
    return Gate(title, "passed") if finished else Gate(title, "skipped", "no run finished")


def _repeats(runs: _Runs) -> Gate:
    title = "gives the same result for the same seed"
    family = next(iter(toys.FAMILIES))
    if runs.prints[family, "first"] == runs.prints[family, "again"]:
        return Gate(title, "passed")
    remedy = "draw with generator=view.generator everywhere; do not use the clock, hash() or the order of a set"
    return Gate(title, "failed", "two runs with one seed differ", remedy)


def _seeds(runs: _Runs) -> Gate:
    title = "gives another result for another seed"
    family = next(iter(toys.FAMILIES))
    same = runs.prints[family, "first"] == runs.prints[family, "other seed"]
    claimed = runs.player.traits.get("deterministic", False)
    if same and (claimed or runs.player.kind != "defense"):
        return Gate(title, "passed", "it draws nothing")
    if same:
        remedy = "draw from view.generator; if there is nothing to draw, say so: deterministic=True"
        return Gate(title, "failed", "whoever knows its code can repeat it", remedy)
    if claimed:
        return Gate(title, "failed", "it claims deterministic=True and is not", "leave the claim out")
    return Gate(title, "passed")


def _function(runs: _Runs) -> Gate:
    title = "preserves the function"
    differences = {f: o.fields["logit_difference"] for (f, run), o in runs.outcomes.items() if run == "first"}
    family, most = max(differences.items(), key=lambda pair: cast("float", pair[1]))
    if not runs.player.traits.get("preserves_function"):
        return Gate(title, "skipped", f"not claimed; logits change by up to {most:.0e} relative")
    if most > LOGIT_TOLERANCE:
        remedy = "apply group elements of view.architecture, or drop the claim preserves_function"
        return Gate(title, "failed", f"{family}: logits change by {most:.0e} relative", remedy)
    return Gate(title, "passed", f"logits change by at most {most:.0e} relative")


def _fidelity(slot: Slot, store: Store, player: Declaration) -> Gate:
    """On a real victim, since a toy has no skill to lose."""
    title = f"keeps {MINIMUM_FIDELITY:.0%} of a real victim's accuracy"
    victim = presets.preset("quick", "embedded", ()).matches[0].victim
    held = protocol("embedded", (victim,), _KEYS[0], EXAMPLES)
    accuracy = {}
    for defense in ("none", player.name):
        outcome, _ = _once(slot, store, protection.Play(protocol=held, victim=victim, seed=0, defense=defense))
        if outcome.status == "timeout":
            return Gate(title, "skipped", f"took over {TOYS.seconds:g} s; `mergearena submit score` measures it")
        if outcome.status != "ok":
            return Gate(title, "failed", outcome.reason or "", "it ran on toys, so look for what differs: sizes, time")
        accuracy[defense] = outcome.fields["accuracy"].test[victim]
    fidelity = accuracy[player.name] / accuracy["none"]
    detail = f"{victim}: {accuracy['none']:.1%} before, {accuracy[player.name]:.1%} after"
    if fidelity < MINIMUM_FIDELITY:
        return Gate(title, "failed", detail, "a defense that costs more is shown on the board but not ranked")
    return Gate(title, "passed", detail)


def _sealed(seal: Seal) -> Gate:
    title = "leaves package, data and records as they were"
    try:
        seal.check()
    except ArenaError as error:
        return Gate(title, "failed", str(error))
    lacking = supported()
    return Gate(title, "passed", "" if lacking is None else f"compared only: {lacking}")
