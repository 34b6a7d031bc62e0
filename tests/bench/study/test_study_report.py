"""What a study says in the end: chosen on validation, read on test, never lower than what was known; and its files."""

import math
import os
import re

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mergearena.bench.cli.asked.study import StudyOptions
from mergearena.bench.cli.commands import study as study_command
from mergearena.bench.errors import ArenaError
from mergearena.bench.games import archive
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.study import report, search
from mergearena.bench.study.findings import findings
from mergearena.bench.study.search import Budget
from mergearena.leaderboard.archive.claims import read_claim
from study_suite import KNOWN, SUITE, MadeUp, study


@pytest.fixture
def made_up(monkeypatch):
    def studied(folder, trials, **options):
        monkeypatch.setattr(search, "play_all", MadeUp(**options))
        monkeypatch.setattr(os, "fsync", lambda file: None)  # nothing here outlives a power cut
        study(folder).run(Budget(trials=trials))
        return findings(folder)

    return studied


def test_the_strongest_is_chosen_on_validation_and_read_on_test(tmp_path, made_up):
    found = made_up(tmp_path, 25, test=lambda share: 0.8 * share)
    assert found.strongest.trial.recovered == pytest.approx(1)
    assert found.strongest.test == pytest.approx(0.8)
    assert found.known.trial.attack == KNOWN[1]
    assert (found.known.trial.recovered, found.known.test) == (pytest.approx(0.5), pytest.approx(0.4))
    assert found.reached == pytest.approx(0.8)


def test_a_study_never_lowers_what_the_best_known_attack_reaches(tmp_path, made_up):
    """What validation prefers is worse on test than a known attack, which then stands."""
    found = made_up(tmp_path, 25, test=lambda share: 0.1 if share > 0.5 else share)
    assert found.strongest.test == pytest.approx(0.1)
    assert found.reached == found.known.test == pytest.approx(0.5)


def test_of_equals_the_cheapest_is_the_strongest(tmp_path, made_up):
    found = made_up(tmp_path, 25)
    equal = [trial for trial in found.trials if trial.recovered == found.strongest.trial.recovered]
    assert len(equal) > 1
    assert found.strongest.trial == min(equal, key=lambda trial: (trial.flops, trial.number))


def test_what_mattered_is_what_the_rule_says(tmp_path, made_up):
    found = made_up(tmp_path, 40)
    shares = {row.name: row.share for row in found.mattered}
    assert sum(shares.values()) <= 1 + 1e-9
    assert {next(iter(shares)), "weight-matching", "gauge-anchor", "merge"} <= {*shares}
    assert not any(
        name.startswith("gauge-anchor.") and share > shares["gauge-anchor"] for name, share in shares.items()
    )


def test_nothing_is_said_to_matter_after_a_few_trials(tmp_path, made_up):
    assert made_up(tmp_path, 5).mattered == ()


def test_the_report_in_files(tmp_path, made_up):
    found = made_up(tmp_path, 20)
    report.write(found, tmp_path)
    rows = pq.read_table(tmp_path / report.TABLE).to_pylist()
    assert [row["attack"] for row in rows] == [trial.attack for trial in found.trials]
    for column in ("best_so_far", "fine_tunings_so_far", "minutes_so_far"):
        values = [row[column] for row in rows]
        assert values == sorted(values)
    assert rows[-1]["best_so_far"] == max(row["recovered"] for row in rows)
    best = list(archive.read_all(tmp_path / report.BEST))
    assert [(r.attack, r.defense, r.status) for r in best] == [(found.strongest.trial.attack, "params", "ok")]
    page = (tmp_path / report.PAGE).read_text()
    assert found.strongest.trial.attack.replace(">", "&gt;") in page
    assert page.count("<svg") == 3
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|@import|url\(", page)


def test_the_records_of_an_earlier_strongest_go_when_a_stronger_one_is_found(tmp_path, made_up):
    for trials in (3, 25):
        report.write(made_up(tmp_path, trials), tmp_path)
    assert {r.attack for r in archive.read_all(tmp_path / report.BEST)} == {findings(tmp_path).strongest.trial.attack}


def test_the_terminal_has_the_pipeline_on_a_line_that_run_accepts(tmp_path, made_up):
    found = made_up(tmp_path, 12)
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    study_command.report(tmp_path, console)
    line = next(line for line in console.export_text().splitlines() if line.startswith("strongest: "))
    assert parse_attack(line.removeprefix("strongest: ")).spelling == found.strongest.trial.attack
    claim = read_claim(tmp_path / study_command.CLAIM)
    assert (claim.attack, claim.defense) == (found.strongest.trial.attack, "params")


def command(folder, **changes):
    given = {
        "defense": "params(scaling=diagonal)",
        "trials": 4,
        "suite": SUITE,
        "match": [],
        "tier": "data-free",
        "stages": ["task-arithmetic, weight-matching"],
        "budget_flops": math.inf,
        "budget_minutes": math.inf,
        "seed": [0, 1],
        "jobs": 1,
        "out": folder,
        "timeout": 60.0,
        "memory": 4.0,
        "examples": 8,
        "key": "k",
        "plugin": [],
    }
    study_command.run(StudyOptions(**{**given, **changes}), Console(quiet=True))


def test_the_command_plays_every_match_of_quick_and_every_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "play_all", MadeUp())
    monkeypatch.setattr(os, "fsync", lambda file: None)
    command(tmp_path)
    found = findings(tmp_path)
    assert (found.settings.defense, found.settings.matches) == ("params", ("a+b", "b+c", "c+a"))
    assert [trial.attack for trial in found.trials if trial.known] == ["identity > task-arithmetic"]
    assert {(r.tasks, r.seed) for r in found.strongest.records} == {
        (tasks, seed) for tasks in (("a", "b"), ("b", "c"), ("c", "a")) for seed in (0, 1)
    }


def test_none_is_no_defense_to_break(tmp_path):
    with pytest.raises(ArenaError, match="name a defense to break"):
        command(tmp_path, defense="none")


def test_without_a_study_there_is_nothing_to_report(tmp_path):
    with pytest.raises(ArenaError, match="no study there"):
        findings(tmp_path)
