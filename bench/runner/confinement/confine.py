"""Everything that a player's process gives up before any of the player's code runs in it."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mergearena.bench.runner.confinement import kernel, landlock, namespaces, seccomp, traces, watch
from mergearena.bench.runner.confinement.readable import readable

GIB = 2**30
LARGEST_FILE = 64 * 2**20
"""Bytes that one file of a player may have, what it prints included; its result may be larger."""
_ADDRESSES = 4 * GIB
"""Address space beyond the memory limit: stacks and arenas reserve more than they use."""
_OPEN_FILES = 256
_LIMITS = ("memory", "addresses", "file size", "open files", "core dumps")
_PR_SET_NO_NEW_PRIVS = 38
_DAC_OVERRIDE = 1 << 1
"""The one privilege of root that is kept: its own files may belong to another user. Landlock bounds it."""
_NOBODY_ELSE = 2**30
"""From here on are users that no system has, one for each process."""


@dataclass(frozen=True)
class Fence:
    """What a player's process may touch of the file system, beside the code that it runs."""

    hidden: tuple[Path, ...]
    """What it may not read although it lies among the code."""
    readable: tuple[Path, ...]
    own: Path
    """The folder that it may write to, in which it is."""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """What of the confinement is in force."""

    landlock: int = 0
    """The kernel's ABI; 0 without."""
    seccomp: bool = False
    namespaces: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    """What the kernel itself limits."""


def supported() -> str | None:
    """None if this system can keep players away from files and from making processes, else what it lacks."""
    if sys.platform != "linux":
        return f"{sys.platform} has no Landlock and no seccomp"
    if not landlock.version():
        return "this kernel has no Landlock (Linux 5.13 or later, not switched off), so files cannot be hidden"
    if not seccomp.supported():
        return "this machine's system calls are not known, so players can start processes"
    return None


def isolation() -> Isolation:
    """What :func:`confine` would put in force on this system. The first call takes a while, and starts a process."""
    if sys.platform != "linux":
        return Isolation()
    names = namespaces.offered()
    return Isolation(
        landlock=landlock.version(),
        seccomp=seccomp.supported(),
        namespaces=names,
        limits=(*_LIMITS, *(("threads",) if _counts_threads(names) else ())),
    )


def warm_up() -> None:
    """Find out, once for all processes forked from this one, what is the same for all of them."""
    readable(())
    isolation()


def confine(fence: Fence, memory_gib: float, threads: int = 1) -> Isolation:
    """Leave this process, which must have one thread, nothing but its code, its inputs, its folder and its limits.

    It forgets what it has of its parents, enters namespaces of its own, has limits on memory, files and threads,
    reads and writes what the fence says, drops privileges, and may make harmless system calls alone. Where the system
    lacks one of them, the others are applied all the same.

    Args:
        fence: what it may touch.
        memory_gib: how much memory it may take.
        threads: how many it may compute with; it may have :data:`watch.THREADS` more.

    Returns:
        What is in force.

    Raises:
        OSError: the kernel refused what it offers.
    """
    in_force = isolation()
    if sys.platform != "linux":
        return in_force
    files = readable(fence.hidden)
    traces.wipe(fence.own)
    namespaces.enter(fence.own)
    _limit(memory_gib)
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if in_force.landlock:
        landlock.restrict(readable=(*files.whole, *fence.readable), listed=files.listed, own=fence.own)
    if "threads" in in_force.limits:
        _limit_threads(threads)
    _drop_privileges()
    if in_force.seccomp:
        seccomp.restrict()
    return in_force


def allow_result() -> None:
    """Let the next files be as large as the memory: a result can be. Called when the player's code has returned."""
    if sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _limit(gib: float) -> None:
    """Memory (RLIMIT_DATA: data and private mappings; RLIMIT_AS: those of files, too), files, no core dumps.

    Shared memory without a file is in neither to the byte, and is not to be had: see the system calls.
    """
    more = int(gib * GIB)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    data, addresses = (int(status[name].split()[0]) * 1024 for name in ("VmData", "VmSize"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + more,) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (addresses + more + _ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(LARGEST_FILE, more), more))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _counts_threads(names: Collection[str]) -> bool:
    """Whether a limit on a user's threads can be made one on this process's: see :func:`_limit_threads`."""
    if os.geteuid() != 0:
        return "user" in names
    known = (map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return "user" not in names and any(first + count > _NOBODY_ELSE * 2 for first, _, count in known)


def _limit_threads(threads: int) -> None:
    """RLIMIT_NPROC counts the threads of a user, not of a process; but a user in a new user namespace is a new one.

    Root is exempt, and counted by its real user: that becomes one that nobody is, while rights and files stay those
    of the effective one.
    """
    if os.geteuid() == 0:
        os.setresuid(_NOBODY_ELSE + os.getpid(), -1, -1)
    resource.setrlimit(resource.RLIMIT_NPROC, (threads + watch.THREADS,) * 2)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_privileges() -> None:
    """Keep none of root's privileges over other processes, limits and devices, nor those of a new namespace."""
    most = _DAC_OVERRIDE if os.geteuid() == 0 else 0
    kept = (_Capabilities * 2)(_Capabilities(most, most, 0), _Capabilities(0, 0, 0))
    kernel.capset(_Header(0x20080522, 0), kept)
