"""Hostile submissions end as recorded failures, and nothing but their own folder changes."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import submissions

from mergearena.bench.games import protection, protocol
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.players.identity import identity_of_file
from mergearena.bench.players.roster import Roster
from mergearena.bench.players.stand_in import Declaration, standing_in
from mergearena.bench.runner.confinement import confine
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.workplace import Workplace
from mergearena.bench.submit import gates, toys
from paths import ROOT

pytestmark = pytest.mark.skipif(confine.supported() is not None, reason="this system cannot confine players")

SUITE = toys.suite_name("open_clip")
LIMITS = Limits(seconds=20.0, memory_gib=1.0)


@pytest.fixture
def meets(tmp_path):
    """Play a submission as a defense of a toy, and return what came of it; all plays share the fork server."""

    def play(body, **limits):
        path, name = tmp_path / "hostile.py", body.__name__.replace("_", "-")
        path.write_text(submissions.source(body, name))
        source = identity_of_file(path)
        hostile = Declaration(name=name, kind="defense", doc="Hostile.", source=source, options=(), traits={})
        held = protocol.protocol(SUITE, ("a",), "k", examples=8)
        with standing_in(hostile):
            one = protection.Play(protocol=held, victim="a", seed=0, defense=parse_defense(name))
        setting = Setting(limits=replace(LIMITS, **limits), roster=Roster((path,), (hostile,)))
        with Workplace(tmp_path / "work", setting) as place, place.play(one) as outcome:
            return outcome

    return play


QUICK = {
    submissions.infinite_loop: ("timeout", "within 2 s"),
    submissions.fork_bomb: ("failed", "starts no processes"),
    submissions.patient_fork_bomb: ("timeout", "within 2 s"),
    submissions.forty_gigabytes: ("memory", "1 GiB of memory"),
    submissions.forty_shared_gigabytes: ("memory", "1 GiB of memory"),
    submissions.writes_to_the_package: ("failed", "writes to its working folder alone"),
    submissions.removes_the_schema: ("failed", "writes to its working folder alone"),
    submissions.reads_test_labels: ("failed", "ermission"),
    submissions.asks_for_test_labels: ("failed", "a player asked its suite for the test split of 'a'"),
    submissions.asks_another_suite: ("failed", "ermission"),
    submissions.patches_the_scorer: ("failed", "left out 'class_embedding'"),
    submissions.prints_a_gigabyte: ("failed", "at most 64 MiB"),
    submissions.lying_dict: ("failed", "Lying; return a plain dict"),
    submissions.exits_early: ("crashed", "without a result (exit code 0)"),
    submissions.exits_early_with_a_result: ("failed", "ermission"),
    submissions.forges_its_score: ("crashed", "result that is none"),
    submissions.never_returns: ("timeout", "within 2 s"),
    submissions.kills_its_parent: ("failed", "ermission"),
    submissions.lifts_its_limits: ("failed", "not allowed to raise maximum limit"),
    submissions.asks_the_fork_server: ("failed", "opens no sockets"),
    submissions.looks_into_its_parent: ("failed", "ermission"),
}


@pytest.mark.parametrize("body", QUICK, ids=lambda body: body.__name__)
def test_a_hostile_submission_is_a_clear_failure_and_changes_nothing(body, meets, tmp_path):
    before = hashes()
    status, reason = QUICK[body]
    outcome = meets(body, seconds=2.0 if status == "timeout" else 20.0)
    assert (outcome.status, reason in (outcome.reason or "")) == (status, True), outcome
    assert outcome.result is None
    assert hashes() == before
    assert left_behind(tmp_path) == []


def hashes():
    """Of the package and the committed records, but for what others may be editing: caches."""
    folders = ("bench/suites/data", "bench/suites/zoo", "leaderboard")
    files = [
        ROOT / "bench" / "games" / "protection" / "scoring.py",
        *(p for f in folders for p in (ROOT / f).rglob("*") if p.is_file()),
    ]
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files if "__pycache__" not in p.parts}


def left_behind(folder):
    """Processes that work below a folder, as players do."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found.append(entry.name)
    return found


AT_IMPORT = {
    "import os\nos._exit(0)\n": "without a result (exit code 0)",
    "while True:\n    pass\n": "did not finish",
    "from mergearena.bench.games.protection import scoring\nopen(scoring.__file__, 'a')\n": (
        "writes to its working folder alone"
    ),
    "open('result.json', 'w').write('{')\nimport os\nos._exit(0)\n": "a result that is none",
}


@pytest.mark.parametrize("text", AT_IMPORT)
def test_what_misbehaves_when_it_is_imported_fails_the_first_gates(text, tmp_path, monkeypatch):
    monkeypatch.setattr(gates, "TOYS", Limits(seconds=3.0))
    path = tmp_path / "hostile.py"
    path.write_text(text)
    before = hashes()
    first = next(gate for gate in gates.check(path, None) if gate.status == "failed")
    assert AT_IMPORT[text] in first.detail
    assert hashes() == before


def test_an_attack_is_shown_neither_the_run_key_nor_labels_beyond_its_tier():
    held = protocol.protocol(SUITE, ("a", "b"), "secret", examples=8)
    none, attack = parse_defense("none"), parse_attack("adamerging")
    one = protection.Play(protocol=held, victim="a", donors=("b",), seed=0, defense=none, attack=attack)
    assert one.attack.tier == "unlabelled"
    assert "secret" not in repr(one.shown())
    assert set(one.draw("a")[1].tolist()) == {-1}
