"""Players that misbehave, each in one way; loaded as a plugin by the tests of the runner."""

import os
import sys
import time

import torch

from mergearena import attacks, defenses
from mergearena.bench.games.protection.players import AttackerView


@defenses.register("drops-a-key")
def drops_a_key(victim, view):
    """Leave a key out."""
    return dict(list(victim.items())[1:])


@defenses.register("adds-a-key")
def adds_a_key(victim, view):
    """Add a key."""
    return {**victim, "router.weight": torch.zeros(2)}


@defenses.register("changes-a-shape")
def changes_a_shape(victim, view):
    """Change a shape."""
    return {**victim, "proj": torch.zeros(1, 2)}


@defenses.register("changes-a-dtype")
def changes_a_dtype(victim, view):
    """Change a dtype."""
    return {k: v.half() for k, v in victim.items()}


@defenses.register("writes-nan")
def writes_nan(victim, view):
    """Put NaN into a tensor."""
    return {**victim, "proj": torch.full_like(victim["proj"], float("nan"))}


@defenses.register("overflows")
def overflows(victim, view):
    """Return finite weights whose answers are not."""
    return {**victim, "proj": torch.full_like(victim["proj"], 3e38)}


@defenses.register("returns-nothing")
def returns_nothing(victim, view):
    """Forget to return."""


@defenses.register("raises")
def raises(victim, view):
    """Raise."""
    raise RuntimeError("boom")


@defenses.register("exits")
def exits(victim, view):
    """End the interpreter."""
    sys.exit(7)


@defenses.register("exits-hard")
def exits_hard(victim, view):
    """End the process."""
    os._exit(9)


@defenses.register("sleeps")
def sleeps(victim, view):
    """Sleep past any limit."""
    time.sleep(600)


@defenses.register("eats-memory")
def eats_memory(victim, view):
    """Allocate 40 GB in small pieces."""
    return [torch.ones(2**26) for _ in range(150)]


@attacks.merger("reads-labels")
def reads_labels(models, view: AttackerView):
    """Read labels though declared data-free."""
    view.labelled(view.victim)
    return dict(view.base)


@attacks.merger("reads-inputs", tier="unlabelled")
def reads_inputs(models, view: AttackerView):
    """Read what its tier allows, and hand back the base."""
    view.unlabelled(view.victim)
    return dict(view.base)


@attacks.merger("returns-the-victim")
def returns_the_victim(models, view: AttackerView):
    """Hand back the released model itself, which does not qualify."""
    return next(iter(models.values()))


@defenses.register("prints")
def prints(victim, view):
    """Print, which must not garble the board."""
    print("NOISE FROM A PLAYER")
    return victim


@defenses.register("counts-to-nine")
def counts_to_nine(victim, view):
    """Tell nine steps, slowly."""
    for step in range(1, 10):
        view.progress(step, 9)
        time.sleep(0.3)
    return victim


@defenses.register("floods-its-progress")
def floods_its_progress(victim, view):
    """Write garbage to wherever progress goes, a lot of it."""
    (handle,) = (int(fd) for fd in os.listdir("/proc/self/fd") if _target(fd).endswith("progress.txt"))
    view.progress(10**400, -1)
    end = time.monotonic() + 2
    while time.monotonic() < end and os.lseek(handle, 0, os.SEEK_END) < 2**26:
        os.write(handle, b"\xff\x001 2" * 10_000)
    for _ in range(100_000):
        view.progress(10**400, -1)
    os.pwrite(handle, b"5 2\n", 0)
    time.sleep(1)
    return victim


def _target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


@defenses.register("naps")
def naps(victim, view):
    """Take nine seconds."""
    time.sleep(9)
    return victim


@defenses.register("eats-two-gigabytes")
def eats_two_gigabytes(victim, view):
    """Need two gigabytes for a moment."""
    torch.ones(2**29)
    return victim
