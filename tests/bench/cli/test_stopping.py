"""A run that is told to end, or killed, ends at once with all its processes; what it finished stays."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mergearena.bench.cli.stopping import Stopped, stoppable
from mergearena.bench.games import archive
from mergearena.bench.records import places
from paths import ROOT, TESTS

PLUGIN = """
import time
from mergearena import attacks

@attacks.merger("waits")
def waits(models, view):
    \"\"\"Wait.\"\"\"
    open("waiting", "w").close()
    time.sleep(600)
"""
TRACKS = {
    "protection": ("--match", "a+b", "--defense", "none", "--attack", "identity > waits"),
    "backdoor": ("--match", "a+b+c", "--defense", "average", "--defense", "waits", "--attack", "badnets(steps=1)"),
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children end with their parent on Linux only")


def ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # nobody has asked how it ended, but it has
    except psutil.NoSuchProcess:
        return True


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def heed_interrupts():
    """Shells have what runs in the background ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code", "track"),
    [
        (signal.SIGTERM, 143, "protection"),
        (signal.SIGKILL, -9, "backdoor"),
        pytest.param(signal.SIGINT, 130, "backdoor", marks=pytest.mark.slow),  # the same handler as SIGTERM's
    ],
)
def test_a_run_ends_at_once_and_keeps_what_it_finished(tmp_path, number, code, track):
    plugin, root = tmp_path / "waits.py", tmp_path / "r"
    plugin.write_text(PLUGIN)
    where = ["--plugin", str(plugin), "--records", str(root), "--out", str(tmp_path / "o.json"), "--jobs", "2"]
    command = [sys.executable, "-m", "mergearena.bench", "run", "--track", track, "--suite", "tiny_suite:TinySuite"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)])}
    options = [*TRACKS[track], *where, "--timeout", "600"]
    run = subprocess.Popen(
        [*command, *options], env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    try:
        until(lambda: [*root.glob(".scratch/*/waiting")] and places.files(root), 300)
        processes = psutil.Process(run.pid).children(recursive=True)
        assert len(processes) >= 3  # the fork server, a player, a judge
        began = time.monotonic()
        run.send_signal(number)
        until(lambda: all(map(ended, processes)), 30)
        took = time.monotonic() - began
        said = run.communicate(timeout=30)[1]
    finally:
        run.kill()
    assert run.returncode == code
    assert took < 10  # under a second on an idle machine; the player would wait for minutes
    assert ("run the same command to go on" in said) == (code > 0)
    kept = [archive.read(path) for path in places.files(root)]
    assert {record.status for record in kept} == {"ok"}


@stoppable()
def be_told(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
        time.sleep(0.1)


def test_an_ignored_signal_stays_ignored_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Stopped) as stopped:
            be_told(signal.SIGINT, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
