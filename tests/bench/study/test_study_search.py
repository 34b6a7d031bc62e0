"""A study's search: it begins with what is known, never sees test, and a killed one goes on as it would have gone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mergearena.bench.errors import ArenaError
from mergearena.bench.games import archive
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import places
from mergearena.bench.study import search
from mergearena.bench.study.search import Budget
from mergearena.bench.study.trials import FILE, MOST_REPEATS, Journal, read
from paths import ROOT, TESTS
from study_suite import KNOWN, MadeUp, study


@pytest.fixture
def made_up(monkeypatch):
    def install(**options):
        runner = MadeUp(**options)
        monkeypatch.setattr(search, "play_all", runner)
        monkeypatch.setattr(os, "fsync", lambda file: None)  # nothing here outlives a power cut
        return runner

    return install


def trials_of(folder):
    return [(t.number, t.attack, t.known, t.recovered, t.status) for t in read(folder)[1]]


def run(folder, count, **options):
    study(folder, **options).run(Budget(trials=count))
    return trials_of(folder)


def test_a_study_begins_with_the_known_attacks_and_ends_no_lower(tmp_path, made_up):
    made_up()
    trials = run(tmp_path, 25)
    assert [attack for _, attack, known, _, _ in trials if known] == list(KNOWN)
    assert [known for _, _, known, _, _ in trials[:3]] == [True, True, False]
    assert len(trials) == 25
    best_known = max(recovered for _, _, known, recovered, _ in trials if known)
    assert max(recovered for *_, recovered, _ in trials) > 0.99 > 0.51 > best_known


def test_known_attacks_are_played_whatever_the_budget(tmp_path, made_up):
    made_up()
    study(tmp_path).run(Budget(trials=1, flops=0, minutes=0))
    assert [attack for _, attack, *_ in trials_of(tmp_path)] == list(KNOWN)


def test_no_pipeline_is_tried_twice(tmp_path, made_up):
    runner = made_up()
    trials = run(tmp_path, 40)
    attacks = [attack for _, attack, *_ in trials if attack]
    assert len({*attacks}) == len(attacks)
    assert sum(len(played) for played in runner.runs) == len(attacks)


def test_a_space_with_nothing_left_ends_the_study(tmp_path, made_up):
    made_up()
    trials = run(tmp_path, 500, stages=("average", "gauge-anchor"), known=("identity > average",))
    assert 1 < len(trials) < 500
    assert Journal(tmp_path, 0).exhausted
    assert len(trials) > MOST_REPEATS / 2


def test_the_search_does_not_see_test(tmp_path, made_up):
    made_up()
    honest = run(tmp_path / "honest", 15)
    made_up(test=lambda share: 1 - share)
    assert run(tmp_path / "inverted", 15) == honest


@pytest.mark.parametrize("jobs", [1, 3])
def test_interrupted_anywhere_a_study_goes_on_as_it_would_have(tmp_path, made_up, jobs):
    runner = made_up()
    whole = run(tmp_path / "whole", 12, jobs=jobs)
    if jobs == 3:
        assert max(map(len, runner.runs)) == 3  # as many trials at once as there are slots
    for stop in range(0, len(runner.runs), 2):
        runner = made_up()
        runner.stop_at = stop
        folder = tmp_path / f"{stop}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, 12, jobs=jobs)
        runner.stop_at = None
        assert run(folder, 12, jobs=jobs) == whole, stop


def test_a_line_cut_short_is_dropped(tmp_path, made_up):
    made_up()
    whole = run(tmp_path / "whole", 8)
    before = run(tmp_path / "cut", 5)
    with (tmp_path / "cut" / FILE).open("a") as journal:
        journal.write('{"op_code": 5, "trial')
    assert run(tmp_path / "cut", 8)[: len(before)] == before
    assert trials_of(tmp_path / "cut") == whole


def test_more_trials_later_are_as_many_at_once(tmp_path, made_up):
    made_up()
    run(tmp_path / "steps", 5)
    assert run(tmp_path / "steps", 11) == run(tmp_path / "once", 11)


def test_an_attack_that_fails_recovers_nothing_and_says_why(tmp_path, made_up):
    made_up(fails=(KNOWN[1],))
    trials = {attack: (recovered, status) for _, attack, _, recovered, status in run(tmp_path, 6)}
    assert trials[KNOWN[1]] == (0.0, "timeout: it did not finish")


def test_options_that_do_not_go_together_are_a_trial_without_a_play(tmp_path, made_up):
    runner = made_up()
    trials = run(tmp_path, 30, stages=("average", "della"), known=())
    infeasible = [(recovered, status) for _, attack, _, recovered, status in trials if not attack]
    assert infeasible
    assert all(recovered == 0 and status.startswith("infeasible: della: window=") for recovered, status in infeasible)
    assert sum(map(len, runner.runs)) == len(trials) - len(infeasible)


def test_operations_can_be_limited(tmp_path, made_up):
    made_up()
    study(tmp_path).run(Budget(trials=100, flops=7 * 6))
    assert sum(1 for _, attack, *_ in trials_of(tmp_path) if attack) == 6


def test_another_study_is_not_mixed_in(tmp_path, made_up):
    made_up()
    run(tmp_path, 3)
    with pytest.raises(ArenaError, match="holds another study: defense differs; choose another --out"):
        run(tmp_path, 5, defense="params(scaling=symmetric)")
    with pytest.raises(ArenaError, match="tier, space differ"):
        run(tmp_path, 5, tier=Tier.LABELLED)
    assert len(trials_of(tmp_path)) == 3


def test_a_defense_that_fails_ends_the_study(tmp_path, made_up):
    made_up(failing_defense=True)
    with pytest.raises(ArenaError, match="params failed on b: it did not finish"):
        run(tmp_path, 3)


def test_without_anything_to_steal_there_is_no_study(tmp_path, made_up, monkeypatch):
    made_up()
    monkeypatch.setattr("mergearena.bench.games.protection.scoring.MINIMUM_GAP", 0.9)
    with pytest.raises(ArenaError, match=r"nothing to steal in tier data-free on b\+a"):
        run(tmp_path, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the local executor's limits are Linux's")
def test_kill_9_loses_no_trial(tmp_path):
    """On real plays: what was played before is not played again, and the trials go on to the number asked for."""
    path = os.pathsep.join([str(TESTS), str(ROOT)])
    killed = subprocess.Popen(
        [sys.executable, "-m", "study_suite", str(tmp_path), "9"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert killed.stdout is not None
    while int(killed.stdout.readline()) < 3:
        pass
    time.sleep(0.3)  # into the next trial
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = trials_of(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in places.files(tmp_path / "records")}
    after = run(tmp_path, 5)
    assert 3 <= len(before) < 9
    assert after[: len(before)] == before
    assert len(after) == max(5, len(before))
    assert {path: path.stat().st_mtime_ns for path in written} == written
    played = {r.attack for r in archive.read_all(tmp_path / "records") if r.defense == "params" and r.attack}
    assert played == {attack for _, attack, *_ in after if attack}
