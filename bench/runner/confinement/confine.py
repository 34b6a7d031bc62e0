"""Everything that a player's process gives up before any of the player's code runs in it."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from mergearena.bench.runner.confinement import landlock, seccomp

GIB = 2**30
LARGEST_FILE = 64 * 2**20
"""Bytes that one file of a player may have, what it prints included; its result may be larger."""
_ADDRESSES = 4 * GIB
"""Address space beyond the memory limit: stacks and arenas reserve more than they use."""
_PR_SET_NO_NEW_PRIVS = 38
_DAC_OVERRIDE = 1 << 1
"""The one privilege of root that is kept: its own files may belong to another user. Landlock bounds it."""


@dataclass(frozen=True)
class Fence:
    """What a player's process may not touch, and what it may although it lies there."""

    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    own: Path


def supported() -> str | None:
    """None if this system can keep players away from files and from making processes, else what it lacks."""
    if sys.platform != "linux":
        return f"{sys.platform} has no Landlock and no seccomp"
    if not landlock.version():
        return "this kernel has no Landlock (Linux 5.13 or later, not switched off), so files cannot be hidden"
    if not seccomp.supported():
        return "this machine's system calls are not known, so players can start processes"
    return None


def confine(fence: Fence, memory_gib: float) -> None:
    """Limit memory and file sizes, hide files, drop privileges, and forbid processes, sockets and foreign signals.

    Where the system lacks one of them, the others are applied all the same.

    Raises:
        OSError: the kernel refused what it offers.
    """
    if sys.platform != "linux":
        return
    _limit(memory_gib)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if landlock.version():
        # Other processes' memory and the disks themselves are files, too.
        hidden = (*fence.hidden, Path("/proc"), Path("/dev"))
        system = (*(Path("/dev") / name for name in ("zero", "random", "urandom")), Path("/proc/sys"))
        own_process = (Path(f"/proc/{os.getpid()}"), Path("/proc/cpuinfo"), Path("/proc/meminfo"))
        landlock.restrict(hidden=hidden, readable=(*fence.readable, *system, *own_process), own=fence.own)
    _drop_privileges()
    if seccomp.supported():
        seccomp.restrict()


def allow_result() -> None:
    """Let the next files be as large as the memory: a result can be. Called when the player's code has returned."""
    if sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _limit(gib: float) -> None:
    """Memory (RLIMIT_DATA: data and private mappings; RLIMIT_AS: shared ones, too), file sizes, no core dumps."""
    more = int(gib * GIB)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    data, addresses = (int(status[name].split()[0]) * 1024 for name in ("VmData", "VmSize"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + more,) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (addresses + more + _ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(LARGEST_FILE, more), more))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_privileges() -> None:
    """As root, keep none of root's privileges over other processes, limits and devices; see capset(2)."""
    if os.geteuid() != 0:
        return
    kept = (_Capabilities * 2)(_Capabilities(_DAC_OVERRIDE, _DAC_OVERRIDE, 0), _Capabilities(0, 0, 0))
    if ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(_Header(0x20080522, 0)), kept):
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")
