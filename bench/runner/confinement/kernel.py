"""System calls that neither the standard library nor every C library wraps, with errors as exceptions.

Each is described in section 2 of the manual.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Any


def call(number: int, *arguments: object) -> int:
    """Make a system call; integers are passed as C's ``long``.

    Raises:
        OSError: the kernel refused.
    """
    whole = (ctypes.c_long(value) if isinstance(value, int) else value for value in (number, *arguments))
    return _checked(_libc().syscall(*whole))


def prctl(option: int, *arguments: int) -> int:
    """Ask something of this process.

    Raises:
        OSError: the kernel refused.
    """
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return _checked(_libc().prctl(option, *(ctypes.c_ulong(value) for value in padded)))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc().unshare(flags))


def mount(source: bytes, target: bytes, flags: int) -> None:
    """Mount without a file system of its own.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc().mount(source, target, None, ctypes.c_ulong(flags), None))


def capset(header: ctypes.Structure, capabilities: ctypes.Array[Any]) -> None:
    """Set the capabilities of this thread.

    Raises:
        OSError: the kernel refused.
    """
    _checked(_libc().capset(ctypes.byref(header), capabilities))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
