"""The doctor: every planted fault is caught; with a safeguard switched off it is missed, and that is said."""

import itertools
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from mergearena.bench import suites
from mergearena.bench.cli.main import main
from mergearena.bench.doctor import backdoors, examination, files, machine, players, plays
from mergearena.bench.doctor.finding import Finding
from mergearena.bench.games.protection import flags, scoring
from mergearena.bench.players.registry import registry
from mergearena.bench.players.roster import Roster
from mergearena.bench.records import text as record_text
from mergearena.bench.runner import run as runner
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.submit import gates, verdicts
from mergearena.bench.submit.verdicts import Gate
from mergearena.bench.suites import integrity, splits
from mergearena.leaderboard.archive import check
from mergearena.leaderboard.backdoor import rows as mergers
from mergearena.leaderboard.page import pictures
from mergearena.leaderboard.protection import rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="players' processes need Linux")


@pytest.fixture(scope="module")
def declared():
    found, reason = gates.inspect(examination.PLANTED)
    assert found, reason
    return found


@pytest.fixture(scope="module")
def paced(declared, tmp_path_factory):
    """What planted and sound players did on a toy."""
    with examination.standing(declared):
        return players.paces(examination.PLANTED, declared, tmp_path_factory.mktemp("gates"))


@pytest.fixture(scope="module")
def once(declared, tmp_path_factory):
    with examination.standing(declared):
        roster = Roster((examination.PLANTED,), declared)
        return plays.run(examination.MINIATURE, Limits(), roster, tmp_path_factory.mktemp("run"))


@pytest.fixture
def played(once, declared, tmp_path):
    """A run of planted and sound players, whose records may be tampered with."""
    with examination.standing(declared):
        yield replace(once, root=shutil.copytree(once.root, tmp_path / "records"))


@pytest.fixture(scope="module")
def poisoned(declared, tmp_path_factory):
    """The records of a run of planted and sound contributors and mergers."""
    with examination.standing(declared):
        roster = Roster((examination.PLANTED,), declared)
        return backdoors.run(examination.MINIATURE, Limits(), roster, tmp_path_factory.mktemp("backdoor"))


def missed(found):
    return {finding.fault for finding in found if not finding.caught}


def silent(*arguments):
    """A flag that is never raised, or a problem that is never found."""
    return ()


def passes(runs):
    """A gate that everybody passes."""
    return Gate("", "passed")


def test_every_fault_of_a_player_is_caught_and_no_sound_one_is(paced):
    found = list(players.findings(paced))
    assert missed(found) == set()
    assert len(found) == len(players.FAULTS) + len(players.BY_THE_KERNEL)


def test_every_fault_in_records_is_caught(played):
    assert missed(plays.findings(played)) == set()


def test_every_fault_of_the_backdoor_track_is_caught(poisoned):
    assert missed(backdoors.findings(poisoned)) == set()


@pytest.mark.parametrize(
    ("name", "off", "fault"),
    [
        ("OBEYS", 2.0, "a trigger that the base obeys by itself"),
        ("OBEYS", 0.0, "a malicious upload without a backdoor"),
        ("MOST_LOST", 1.0, "a safe merger that hands back the base"),
    ],
)
def test_without_a_rule_of_the_backdoor_track_its_fault_is_missed(name, off, fault, poisoned, monkeypatch):
    monkeypatch.setattr(mergers, name, off)
    assert fault in missed(backdoors.findings(poisoned))


def test_every_fault_of_files_is_caught(played, tmp_path):
    assert missed(files.findings(played, examination.MINIATURE, tmp_path)) == set()


@pytest.mark.parametrize(
    ("gate", "faults"),
    [
        ("seeds", {"ignores its seed"}),
        ("repeats", {"cannot be repeated"}),
        ("inputs", {"changes its input"}),
        ("form", {"returns NaN"}),
        ("function", {"claim to keep the function is false"}),
        ("limits", {"forges its score"}),
        ("tier", {"asks for the test split", "reads labels", "opens another's model"}),
        ("every_model", {"drops one model"}),
    ],
)
def test_without_a_gate_its_faults_are_missed(gate, faults, paced, monkeypatch):
    monkeypatch.setattr(verdicts, gate, passes)
    found = missed(players.findings(paced))
    assert len(found) == len(faults)
    assert all(any(part in fault for fault in found) for part in faults)


def test_a_gate_that_always_fails_catches_nothing(paced, monkeypatch):
    real = verdicts.seeds
    monkeypatch.setattr(verdicts, "seeds", lambda runs: replace(real(runs), status="failed"))
    assert any("ignores its seed" in fault for fault in missed(players.findings(paced)))


@pytest.mark.parametrize(
    ("where", "name", "off", "fault"),
    [
        (flags, "_aligner_hurts", silent, "an aligner that transposes"),
        (flags, "_task_vector_erased", silent, "an aligner that hands back the base"),
        (flags, "_inconsistent", silent, "a scorer that swaps victim and donor"),
        (rows, "MINIMUM_FIDELITY", 0.0, "a defense that hands back the base"),
        (scoring.Points, "qualifies", lambda *any_: True, "an attack that hands back the released model"),
    ],
)
def test_without_a_flag_or_a_rule_its_fault_is_missed(where, name, off, fault, played, monkeypatch):
    monkeypatch.setattr(where, name, off)
    assert missed(plays.findings(played)) == {fault}


def test_a_sound_play_that_fails_is_an_alarm(played):
    failed = played.records[-1].model_copy(update={"status": "failed", "score": None, "reason": "no memory"})
    found = list(plays.findings(replace(played, records=(*played.records[:-1], failed))))
    assert {finding.caught for finding in found} == {False}
    assert any("no memory" in (finding.alarm or "") for finding in found)


def test_without_a_comparison_of_splits_a_leak_is_missed(monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr(splits, "_digest", lambda example: next(numbers))
    assert missed([files.leak(suites.get(examination.MINIATURE))])


def test_without_hashes_a_damaged_model_is_missed(monkeypatch, tmp_path):
    monkeypatch.setattr(integrity, "sha256", lambda path: "0" * 64)
    assert missed([files.damage(tmp_path)])


class EqualToAll:
    """The code of a play, if nobody looked."""

    __hash__ = None

    def __eq__(self, other):
        return True


def test_a_runner_that_does_not_look_at_code_reuses_a_stale_record(played, monkeypatch):
    monkeypatch.setattr(runner, "code_of", lambda play: EqualToAll())
    assert missed([files.other_code(played)])


@pytest.mark.parametrize(
    ("off", "fault"),
    [
        ([(record_text, "digest", lambda fields: "0" * 64)], "a score edited in a record"),
        (
            [(check, "texts", lambda board: {}), (pictures, "outdated", lambda wanted, folder: [])],
            "a stale board: a record was taken out",
        ),
    ],
)
def test_without_a_check_a_tampered_board_is_missed(off, fault, played, tmp_path, monkeypatch):
    for where, name, nothing in off:
        monkeypatch.setattr(where, name, nothing)
    assert missed(files.board(played.records, tmp_path / "board")) == {fault}


CAUGHT = Finding("a planted fault", "a safeguard", "what is wrong; what to do", None)


@pytest.mark.parametrize(
    ("findings", "code", "last"),
    [
        ([CAUGHT, CAUGHT], 0, "2 of 2 planted faults caught"),
        ([CAUGHT, replace(CAUGHT, said=None)], 1, "1 of 2 planted faults caught"),
        ([CAUGHT, replace(CAUGHT, alarm="a false alarm")], 1, "1 of 2 planted faults caught"),
    ],
)
def test_the_command_counts_what_was_caught_and_exits_1_if_anything_was_missed(
    findings, code, last, monkeypatch, capsys
):
    monkeypatch.setattr("mergearena.bench.cli.commands.doctor.examine", lambda: iter(findings))
    monkeypatch.setattr(sys, "argv", ["mergearena", "doctor"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == code
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-1].startswith(last)
    assert any("Landlock" in line for line in lines)
    assert sum("✗" in line for line in lines) == len(findings) - int(last[0])


def test_a_damaged_installation_is_named_and_fails(monkeypatch, capsys):
    monkeypatch.setattr("mergearena.bench.cli.commands.doctor.examine", lambda: iter([CAUGHT]))
    monkeypatch.setattr(integrity, "differing", lambda: iter(["zoo/mnist.safetensors is missing"]))
    monkeypatch.setattr(sys, "argv", ["mergearena", "doctor"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    assert "zoo/mnist.safetensors is missing" in capsys.readouterr().out


def test_a_kernel_that_hides_no_files_is_told_and_that_fault_is_not_planted(paced, monkeypatch):
    monkeypatch.setattr(machine.confine, "supported", lambda: "no Landlock")
    assert any(line.status == "weaker" and "no Landlock" in line.found for line in machine.state())
    assert len(list(players.findings(paced))) == len(players.FAULTS)


def test_planted_players_are_nobodys_but_the_doctors(declared):
    with examination.standing(declared):
        assert any(player.name.startswith("planted-") for player in registry.players())
    assert not any(player.name.startswith("planted-") for player in registry.players())


@pytest.mark.slow
def test_the_whole_examination_catches_everything_and_leaves_nothing(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # A process of its own, as others keep temporary folders until they end; torch's cache is to stay.
    environment = os.environ | {"TMPDIR": str(temporary), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    doctor = [sys.executable, "-m", "mergearena.bench", "doctor"]
    done = subprocess.run(doctor, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(temporary.rglob("*")) == []
