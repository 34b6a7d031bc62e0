"""Landlock: what of the file system a process may still touch, on Linux from 5.13 on, without privileges.

The system calls are made through ctypes, as neither the standard library nor the C library wraps them. See
landlock(7); names and bits below are those of ``linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mergearena.bench.runner.confinement import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
# A player makes plain files only: whoever reads its folder afterwards must not be led elsewhere by a link or a pipe.
_OWN = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_FILE = _WRITE_FILE | _READ_FILE | _TRUNCATE
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11
# ABI -> all rights over files that it knows; what is known and not allowed, such as to execute or ioctl, is denied.
_KNOWN = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The ABI that the kernel offers; 0 if it has no Landlock, or it is switched off."""
    try:
        return kernel.call(_CREATE, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(*, readable: Iterable[str | Path], listed: Iterable[str | Path], own: Path) -> None:
    """From now on this thread and its children read ``readable``, and write in ``own`` alone.

    TCP is barred, and so are abstract sockets and signals to processes outside, where the kernel knows how. Whether a
    file exists, and how large it is, can still be asked of any path.

    Args:
        readable: files, and folders with all that is in them.
        listed: folders below which names can be listed, though not read.
        own: the one folder in which plain files and folders may be made, written and removed.

    Raises:
        OSError: the kernel refused; with ENOSYS or EOPNOTSUPP it has no Landlock.
    """
    abi = version()
    known = _KNOWN[min(max(abi, 1), max(_KNOWN))]
    ruleset = _Ruleset(known, _ALL_TCP if abi >= 4 else 0, _ALL_SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    handle = kernel.call(_CREATE, ctypes.byref(ruleset), size, 0)
    try:
        rights = (*((path, _READ) for path in readable), *((path, _READ_DIR) for path in listed), (own, _OWN & known))
        for path, allowed in (*rights, (os.devnull, _READ_FILE | _WRITE_FILE)):
            _allow(handle, path, allowed)
        kernel.call(_RESTRICT, handle, 0)
    finally:
        os.close(handle)


def _allow(ruleset: int, path: str | Path, rights: int) -> None:
    """Allow ``rights`` on a file, or on a folder and all below it; what is not there, or not ours to open, is left."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                rights &= _FILE
            kernel.call(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(_Beneath(rights, handle)), 0)
        finally:
            os.close(handle)
