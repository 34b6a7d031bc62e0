"""The gates that a submitted player must pass, each with what was found and what to do about it.

Every run of submitted code happens in a player's process; here is only what those processes left behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError
from mergearena.bench.games import protection
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import parse_defense
from mergearena.bench.games.protection.scoring import MINIMUM_FIDELITY
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.roster import Roster
from mergearena.bench.players.stand_in import Declaration, standing_in
from mergearena.bench.runner.confinement.confine import supported
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.workplace import Workplace
from mergearena.bench.submit import runs, verdicts
from mergearena.bench.submit.entry import TOY_EXAMPLES, Entry
from mergearena.bench.submit.inspection import Found, Inspection
from mergearena.bench.submit.roles import entry_of
from mergearena.bench.submit.runs import KEY, TOYS, Runs
from mergearena.bench.submit.seal import Seal
from mergearena.bench.submit.verdicts import Gate


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
        setting = Setting(limits=TOYS, roster=Roster((path,), (player,)))
        with (
            tempfile.TemporaryDirectory() as scratch,
            Workplace(Path(scratch), setting) as place,
            standing_in(player),
        ):
            yield from _played(place, entry_of(player))
    yield _sealed(seal)


def inspect(path: Path) -> tuple[tuple[Declaration, ...] | None, str]:
    """The players that a file registers, or None and why it could not be imported. It is imported in a process of its
    own.
    """
    setting = Setting(limits=TOYS, roster=Roster((path,)))
    with (
        tempfile.TemporaryDirectory() as scratch,
        Workplace(Path(scratch), setting) as place,
        place.run(Inspection(path.absolute())) as outcome,
    ):
        pass  # what it returned is nothing
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


def _played(place: Workplace, entry: Entry[Any]) -> Iterator[Gate]:
    found = runs.paces(place, entry)
    yield from judged(found)
    if found.all_finished and entry.protects:
        yield _fidelity(place, entry)


def judged(found: Runs) -> Iterator[Gate]:
    """The gates that a player's runs on toys decide."""
    for verdict in (verdicts.runs_everywhere, verdicts.form, verdicts.tier, verdicts.limits, verdicts.inputs):
        yield verdict(found)
    if not found.all_finished:
        return
    yield from (verdicts.repeats(found), verdicts.seeds(found))
    if found.entry.merges:
        yield verdicts.every_model(found)
    if found.entry.protects:
        yield verdicts.function(found)


def _fidelity(place: Workplace, entry: Entry[Any]) -> Gate:
    """On a real victim, since a toy has no skill to lose."""
    title = f"keeps {MINIMUM_FIDELITY:.0%} of a real victim's score"
    victim = presets.preset("quick", "embedded", tuple(suites.get("embedded").tasks)).matches[0].victim
    held = protocol("embedded", (victim,), KEY, TOY_EXAMPLES)
    score = {}
    for defense in (parse_defense("none"), entry.tried):
        play = protection.Play(protocol=held, victim=victim, seed=0, defense=defense)
        outcome, _ = runs.once(place, play)
        if outcome.status == "timeout":
            return Gate(title, "skipped", f"took over {TOYS.seconds:g} s; `mergearena submit score` measures it")
        if outcome.status != "ok":
            return Gate(title, "failed", outcome.reason or "", "it ran on toys, so look for what differs: sizes, time")
        score[defense.spelling] = outcome.fields["score"].test[victim]
    fidelity = score[entry.tried.spelling] / score["none"]
    detail = f"{victim}: {score['none']:.1%} before, {score[entry.tried.spelling]:.1%} after"
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
