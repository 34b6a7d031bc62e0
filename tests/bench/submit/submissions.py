"""Submissions that cheat or misbehave, each in one way; every function is the body of a file of its own."""

import inspect
import textwrap

HEADER = '''"""A hostile submission."""

from mergearena import defenses
from mergearena import attacks
'''


def source(body, name="hostile", decorator="defenses.register", arguments="victim, view"):
    """The text of a file whose only player does what ``body`` does."""
    lines = textwrap.dedent(inspect.getsource(body)).split("\n", 1)[1]
    head = f'{HEADER}\n\n@{decorator}("{name}")\ndef player({arguments}):\n'
    return head + textwrap.indent(textwrap.dedent(lines), "    ")


def infinite_loop(victim, view):
    """Never return."""
    while True:
        pass


def fork_bomb(victim, view):
    """Start processes that start processes."""
    import os

    while True:
        os.fork()


def patient_fork_bomb(victim, view):
    """Start processes whatever is raised, and go on when that is over."""
    import os
    import time

    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            os.fork()
        except OSError:
            continue
    while True:
        time.sleep(1)


def forty_gigabytes(victim, view):
    """Allocate 40 GB."""
    return bytearray(40 * 10**9)


def forty_shared_gigabytes(victim, view):
    """Allocate 40 GB that are no private memory."""
    import mmap

    mmap.mmap(-1, 40 * 10**9).write(b"x")
    return victim


def writes_to_the_package(victim, view):
    """Make every defense hold."""
    from mergearena.bench.games.protection import scoring

    with open(scoring.__file__, "a") as file:
        file.write("\nENOUGH = 0\n")
    return victim


def removes_the_schema(victim, view):
    """Remove a file of the package."""
    import os

    from mergearena.leaderboard.board import build

    os.remove(build.SCHEMA)
    return victim


def reads_test_labels(victim, view):
    """Read the test split from the data pack."""
    import pyarrow.parquet as pq

    from mergearena.bench.suites.embedded.loading import DATA

    pq.read_table(DATA / "mnist.parquet", columns=["label"], filters=[("split", "=", "test")])
    return victim


def asks_for_test_labels(victim, view):
    """Ask the suite for the test split."""
    view.suite.load(view.task, "test")
    return victim


def asks_another_suite(victim, view):
    """Ask a suite of its own for the test split."""
    from mergearena.bench import suites

    suites.get("embedded").load("digits", "test")
    return victim


def patches_the_scorer(victim, view):
    """Make the judge see what is not there, and return nonsense."""
    import torch

    from mergearena.bench.files import checkpoints
    from mergearena.bench.games.protection import roles, scoring

    checkpoints.preflight = lambda state, like, who: state
    roles.judge = scoring.worst_case = lambda *arguments: 1 / 0
    return {"nonsense": torch.zeros(1)}


def prints_a_gigabyte(victim, view):
    """Fill the disk."""
    for _ in range(1000):
        print("x" * 10**6)
    return victim


def lying_dict(victim, view):
    """Be a dict that shows a checker what it wants to see, and others something else."""

    class Lying(dict):
        def keys(self):
            return victim.keys()

        def __getitem__(self, key):
            return victim[key]

    return Lying({key: value * 0 for key, value in victim.items()})


def exits_early(victim, view):
    """Exit as if all were well."""
    import os

    os._exit(0)


def exits_early_with_a_result(victim, view):
    """Leave a result of its own making: a link to somebody else's model, and a price of nothing."""
    import json
    import os

    from mergearena.bench.suites.embedded.loading import ZOO

    os.symlink(ZOO / "mnist.safetensors", "result.safetensors")
    with open("result.json", "w") as file:
        json.dump({"status": "ok"}, file)
    os._exit(0)


def forges_its_score(victim, view):
    """Fill in fields of the record."""
    import json
    import os
    from pathlib import Path

    from mergearena.bench.files import checkpoints

    checkpoints.save(victim, Path("result.safetensors"))
    perfect = {"validation": {"a": 1.0}, "test": {"a": 1.0}}
    with open("result.json", "w") as file:
        json.dump({"status": "ok", "facts": {"score": perfect, "round": 9}}, file)
    os._exit(0)


def never_returns(victim, view):
    """Ignore SIGTERM, leave a grandchild behind in a session of its own, and wait."""
    import os
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
    except OSError:
        pass
    while True:
        time.sleep(1)


def kills_its_parent(victim, view):
    """Kill the fork server."""
    import os
    import signal

    os.kill(os.getppid(), signal.SIGKILL)
    return victim


def lifts_its_limits(victim, view):
    """Take the memory limit away, as root may."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return victim


def asks_the_fork_server(victim, view):
    """Open a socket, as to the fork server, which would start an unconfined process."""
    import socket

    socket.socket(socket.AF_UNIX)
    return victim


def looks_into_its_parent(victim, view):
    """Read another process's memory."""
    import os

    with open(f"/proc/{os.getppid()}/mem", "rb") as file:
        file.read(1)
    return victim
