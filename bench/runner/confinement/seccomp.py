"""Seccomp: the system calls that a player's process may make, and with which arguments. Linux, no privileges.

A classic BPF program looks at every system call: see seccomp(2) and ``linux/filter.h``. It allows what is listed and
denies all else, since kernels grow new calls, and each list of what is dangerous was short of one: System V memory,
message queues, keyrings, times and modes of files. What numpy, torch, tokenizers and pyarrow call was found by
tracing plays; the harmless kin of these calls are allowed with them, so that another C library finds what it needs.

What is denied fails with EPERM. Calls newer than the lists fail with ENOSYS, and so does clone3, whose flags lie where
no filter can look: the C library then does what it does on an older kernel.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
import termios
from dataclasses import dataclass

from mergearena.bench.runner.confinement import kernel
from mergearena.bench.runner.confinement.calls import ASKED, HARMLESS, MACHINES, NEWEST, numbers

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _AND, _EQUAL, _AT_LEAST, _JUMP, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x05, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_ALL = 0xFFFFFFFF
_X32 = 0x40000000
"""Numbers from here on are x86-64's second table of the same calls."""

_CLONE_THREAD, _NEW_NAMESPACES = 0x00010000, 0x7E020000
_SET_IDS = 0o6000
_FIOCLEX, _FIONCLEX, _FIONREAD, _FIONBIO = 0x5451, 0x5450, 0x541B, 0x5421
_PR_NAMES = (15, 16)  # of threads: set, get
_PR_READS = (2, 3, 23, 30, 39)  # the parent-death signal, dumpable, bounding set, timer slack, no_new_privs


@dataclass(frozen=True)
class _Rule:
    """A call is denied if its argument, masked, is none of these values; or, if ``barred``, if it is one of them."""

    argument: int
    values: tuple[int, ...]
    mask: int = _ALL
    barred: bool = False
    error: int = errno.EPERM


def _rules(pid: int) -> dict[str, tuple[_Rule, ...]]:
    """Call -> all that must hold of its arguments."""
    own = (0, pid)
    return {
        # Landlock knows of truncating from its third edition on only; and no file may be made set-user-id.
        "open": (_truncating(1), _Rule(2, (0,), _SET_IDS)),
        "openat": (_truncating(2), _Rule(3, (0,), _SET_IDS)),
        "creat": (_Rule(1, (0,), _SET_IDS),),
        # Shared memory without a file is counted by no limit, so there is none left.
        "mmap": (_Rule(3, *_both(mmap.MAP_SHARED | mmap.MAP_ANONYMOUS), barred=True, error=errno.ENOMEM),),
        # Locks and leases can be seen by other plays; owners of signals are other processes.
        "fcntl": (_Rule(1, (*range(fcntl.F_DUPFD, fcntl.F_SETFL + 1), fcntl.F_DUPFD_CLOEXEC)),),
        "ioctl": (_Rule(1, (termios.TCGETS, termios.TIOCGWINSZ, _FIOCLEX, _FIONCLEX, _FIONREAD, _FIONBIO)),),
        "prctl": (_Rule(0, (*_PR_NAMES, *_PR_READS)),),
        "clone": (_Rule(0, *_both(_CLONE_THREAD)), _Rule(0, (0,), _NEW_NAMESPACES)),
        "kill": (_Rule(0, (pid,)),),
        "tgkill": (_Rule(0, (pid,)),),
        "sched_setaffinity": (_Rule(0, own),),
        "prlimit64": (_Rule(0, own),),
        "clone3": (_Rule(0, (), error=errno.ENOSYS),),
    }


def _truncating(flags: int) -> _Rule:
    """No truncating of what is opened for reading alone."""
    return _Rule(flags, (os.O_TRUNC,), os.O_TRUNC | os.O_ACCMODE, barred=True)


def _both(bits: int) -> tuple[tuple[int, ...], int]:
    """Values and mask that hold where all of these bits are set."""
    return (bits,), bits


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def supported() -> bool:
    """Whether the calls of this machine are known."""
    return os.name == "posix" and platform.system() == "Linux" and platform.machine() in MACHINES


def restrict() -> None:
    """From now on this thread and those it starts are refused all other calls.

    Needs ``PR_SET_NO_NEW_PRIVS``, or privileges.

    Raises:
        OSError: the kernel refused, or has no seccomp.
    """
    code = _program(*MACHINES[platform.machine()], os.getpid())
    program = _Program(len(code) // 8, code)
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def _program(column: int, architecture: int, pid: int) -> bytes:
    """The filter, eight bytes an instruction; jumps count instructions from the next one on."""
    code = [
        *(_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL)),
        _step(_LOAD, _NUMBER),
    ]
    if column == 0:
        code += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)]
    for number in numbers(HARMLESS, column).values():
        code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    rules = _rules(pid)
    for name, number in numbers(ASKED, column).items():
        checks = [step for rule in rules[name] for step in _checked(rule)]
        code += [_step(_EQUAL, number, 0, len(checks) + 1), *checks, _step(_RETURN, _ALLOW)]
    code += [_step(_AT_LEAST, NEWEST + 1, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    return b"".join([*code, _step(_RETURN, _ERROR | errno.EPERM)])


def _checked(rule: _Rule) -> list[bytes]:
    """Steps that return the rule's error where it is broken, and go on after them where it holds."""
    count = len(rule.values)
    return [
        *(_step(_LOAD, _ARGUMENTS + 8 * rule.argument), _step(_AND, rule.mask)),
        *(_step(_EQUAL, value, count - i, 0) for i, value in enumerate(rule.values)),
        # Found values jump over one step: the return where values are allowed, the jump where they are barred.
        *([_step(_JUMP, 1)] if rule.barred else []),
        _step(_RETURN, _ERROR | rule.error),
    ]


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)
