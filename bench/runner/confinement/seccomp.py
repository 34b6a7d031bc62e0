"""Seccomp: the system calls that a player's process does not need, and could do harm with. Linux, no privileges.

A classic BPF program looks at every system call: see seccomp(2) and ``linux/filter.h``. It denies whatever makes a
process, so that nothing outlives the player and no fork bomb starts; sockets, through which the fork server could be
asked for an unconfined process; looking into other processes; and signals to any process but its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
"""Numbers from here on are x86-64's second table of the same calls."""

# Name -> number on (x86_64, aarch64); None where the call does not exist.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "memfd_create": (319, 279),  # memory that no limit counts
    "io_uring_setup": (425, 425),  # system calls that this filter does not see
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
}
_OWN_ONLY = {"kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261)}
"""Allowed with the process itself as first argument (for prlimit64 also 0, which means the same)."""
_CLONE, _CLONE3 = (56, 220), (435, 435)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> its column above, and its AUDIT_ARCH number."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def supported() -> bool:
    """Whether the calls of this machine are known."""
    return os.name == "posix" and platform.system() == "Linux" and platform.machine() in _MACHINES


def restrict() -> None:
    """From now on this thread and those it starts are refused such calls (EPERM).

    Needs ``PR_SET_NO_NEW_PRIVS``, or privileges.

    Raises:
        OSError: the kernel refused, or has no seccomp.
    """
    code = _program(*_MACHINES[platform.machine()], os.getpid())
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _program(column: int, architecture: int, pid: int) -> bytes:
    """The filter, eight bytes an instruction; jumps count instructions from the next one on."""
    no = _ERROR | errno.EPERM
    code = [
        *(_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL)),
        _step(_LOAD, _NUMBER),
    ]
    if column == 0:
        code += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)]
    for numbers in _DENIED.values():
        if (number := numbers[column]) is not None:
            code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, no)]
    # The C library takes ENOSYS as a kernel without clone3, and uses clone, whose flags can be looked at.
    code += [_step(_EQUAL, _CLONE3[column], 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    code += [_step(_EQUAL, _CLONE[column], 0, 4), _step(_LOAD, _FIRST_ARGUMENT), _step(_ANY_BIT, _CLONE_THREAD, 1, 0)]
    code += [_step(_RETURN, no), _step(_RETURN, _ALLOW)]
    for name, numbers in _OWN_ONLY.items():
        also = 0 if name == "prlimit64" else pid
        code += [
            *(_step(_EQUAL, numbers[column], 0, 5), _step(_LOAD, _FIRST_ARGUMENT)),
            *(_step(_EQUAL, pid, 2, 0), _step(_EQUAL, also, 1, 0), _step(_RETURN, no), _step(_RETURN, _ALLOW)),
        ]
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)
