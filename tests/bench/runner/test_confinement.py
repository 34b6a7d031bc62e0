"""A player's process is left its code, its inputs, its folder and its limits: nothing else, whatever it tries."""

import os
import shutil
import sysconfig
from pathlib import Path

import barred
import intruder
import pytest

from mergearena.bench.games.base import Files
from mergearena.bench.runner.confinement import confine, seccomp, watch
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.executors.local import Local
from mergearena.bench.runner.scratch import remove, scratch_folder
from mergearena.bench.suites.embedded.loading import ZOO
from paths import ROOT

pytestmark = pytest.mark.skipif(confine.supported() is not None, reason="this system cannot confine players")

BARRED = ("PermissionError EPERM", "PermissionError EACCES")
TRIES = {
    **dict.fromkeys(barred.BARRED, BARRED),
    "takes_shared_memory": ("OSError ENOMEM",),
    "takes_memory": ("MemoryError",),
    "opens_three_hundred_files": ("OSError EMFILE",),
}
STATE = {
    "variables": [],
    "variables_in_memory": {b""},
    "arguments": ["", ""],
    "keys": {b""},
    "descriptors": [],
    "parent_death_signal": "SIGKILL",
}
WORKS = {
    "reads_its_input": "given",
    "computes_in_threads": 300.0,
    "imports_what_was_not": ["scipy.interpolate", "sklearn.datasets", "sqlite3", "wave"],
    "imports_the_board": "mergearena.leaderboard.board.build",
    "writes_and_moves": ([1.0, 1.0], "Asia/Tokyo", True),
    "writes_a_table": [1, 2],
    "knows_the_machine": True,
}


def play(folder, *names, seconds=60.0, **given):
    """Run functions of the intruder in a player's process that may read the input alone."""
    executor = Local(Setting(limits=Limits(seconds=seconds, memory_gib=1.0)))
    out = scratch_folder(folder)
    try:
        job = intruder.Intrusion(names, given)
        return executor.run(job, Files(given=Path(given["input"]) if given else None), out)
    finally:
        executor.close()
        remove(out)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder as another play, or another copy of the package, could leave it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(ZOO / "mnist.safetensors", folder)
    (folder / "runs" / "submit").mkdir(parents=True)
    (folder / "runs" / "submit" / "held.key").write_text("secret")
    (folder / "input").write_text("given")
    return folder


@pytest.fixture(scope="module")
def found(elsewhere, tmp_path_factory):
    """Everything that is tried in one process, and what came of each try."""
    packages = sysconfig.get_path("purelib")
    given = {"root": ROOT, "elsewhere": elsewhere, "packages": packages, "input": elsewhere / "input"}
    names = (*STATE, *WORKS, *TRIES)
    outcome = play(tmp_path_factory.mktemp("plays"), *names, **{name: str(value) for name, value in given.items()})
    assert outcome.status == "ok", outcome
    return outcome.fields["found"]


@pytest.mark.parametrize("name", TRIES)
def test_it_is_barred(name, found):
    assert found[name] in TRIES[name]


@pytest.mark.parametrize("name", STATE)
def test_it_has_nothing_of_its_parents(name, found):
    assert found[name] == f"got {STATE[name]!r}"


@pytest.mark.parametrize("name", WORKS)
def test_what_players_need_works(name, found):
    assert found[name] == f"got {WORKS[name]!r}"


def test_nothing_of_others_was_changed(found, elsewhere):
    kept = (elsewhere / "mnist.safetensors").stat()
    assert (elsewhere / "mnist.safetensors").read_bytes() == (ZOO / "mnist.safetensors").read_bytes()
    assert (kept.st_mode & 0o7777, kept.st_mtime > 1) == ((ZOO / "mnist.safetensors").stat().st_mode & 0o7777, True)
    assert (elsewhere / "input").read_text() == "given"


def test_more_threads_than_allowed_are_refused_or_end_the_play(tmp_path):
    outcome = play(tmp_path, "starts_a_hundred_threads")
    if "threads" in confine.isolation().limits:
        assert outcome.fields["found"] == {"starts_a_hundred_threads": "RuntimeError"}
    else:
        assert "threads" in outcome.reason


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("makes_many_files", "made over 500 files and folders"),
        ("makes_deep_folders", "made folders over 32 deep"),
        ("fills_the_disk", "filled its working folder with over 0.125 GiB"),
    ],
)
def test_what_no_limit_counts_ends_the_play(name, says, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "FILES", 500)
    monkeypatch.setattr(watch, "BYTES", 2**27 - 2**30)  # with a memory limit of 1 GiB
    outcome = play(tmp_path, name)
    assert (outcome.status, outcome.reason) == ("failed", says)
    assert list(tmp_path.iterdir()) == []


def test_threads_are_counted_from_outside(monkeypatch, tmp_path):
    monkeypatch.setattr(watch, "THREADS", -1)
    assert watch.excess(os.getpid(), tmp_path, 1, 1.0).endswith("threads; a player may have 0")
    assert watch.excess(None, tmp_path, 1, 1.0) is None


def test_a_folder_is_removed_however_deep_it_is(tmp_path):
    here = os.getcwd()
    os.chdir(folder := scratch_folder(tmp_path))
    try:
        for _ in range(1100):
            os.mkdir("d")
            os.chdir("d")
        Path("file").touch()
    finally:
        os.chdir(here)
    (folder / "barred").mkdir(mode=0)
    (folder / "link").symlink_to(ROOT)
    remove(folder)
    assert not folder.exists()
    assert (ROOT / "README.md").exists()


def test_what_is_in_force_is_told():
    in_force = confine.isolation()
    assert (in_force.landlock > 0, in_force.seccomp) == (True, seccomp.supported())
    assert {"memory", "file size", "open files"} <= set(in_force.limits)
