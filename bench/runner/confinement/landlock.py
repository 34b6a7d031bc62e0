"""Landlock: what of the file system a process may still touch, on Linux from 5.13 on, without privileges.

The system calls are made through ctypes, as neither the standard library nor the C library wraps them. See
landlock(7); names and bits below are those of ``linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
# A player makes plain files only: whoever reads its folder afterwards must not be led elsewhere by a link or a pipe.
_OWN = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _TRUNCATE
_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11
# ABI -> all rights over files that it knows.
_KNOWN = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The ABI that the kernel offers; 0 if it has no Landlock, or it is switched off."""
    return max(0, int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def restrict(*, hidden: Collection[Path], readable: Collection[Path], own: Path) -> None:
    """From now on this thread and its children read everything but ``hidden``, and write in ``own`` alone.

    Names in hidden folders can still be listed. TCP is barred, and so are signals to processes outside, where the
    kernel knows how.

    Args:
        hidden: files and folders, with what is in them.
        readable: what may be read although it lies in a hidden folder.
        own: the one folder in which plain files and folders may be made, written and removed.

    Raises:
        OSError: the kernel refused; with ENOSYS or EOPNOTSUPP it has no Landlock.
    """
    abi = version()
    known = _KNOWN[min(max(abi, 1), max(_KNOWN))]
    ruleset = _Ruleset(known, _ALL_TCP if abi >= 4 else 0, _ALL_SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    handle = _call(_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    try:
        _allow(handle, Path("/"), _READ_DIR & known)
        for path in (*_around({Path(os.path.realpath(path)) for path in hidden}), *readable):
            _allow(handle, path, _READ & known)
        _allow(handle, own, _OWN & known)
        _allow(handle, Path(os.devnull), (_READ_FILE | _WRITE_FILE) & known)
        _call(_RESTRICT, handle, 0)
    finally:
        os.close(handle)


def _around(hidden: Collection[Path], folder: Path = Path("/")) -> Iterator[Path]:
    """The largest files and folders below ``folder`` that hold nothing hidden; links are nothing, as targets count."""
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if path in hidden or entry.is_symlink():
            continue
        if any(path in away.parents for away in hidden):
            yield from _around(hidden, path)
        else:
            yield path


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Allow ``rights`` on a file, or on a folder and all below it; what is not there, or not ours to open, is left."""
    with suppress(FileNotFoundError, PermissionError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                rights &= _FILE
            _call(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(_Beneath(rights, handle)), 0)
        finally:
            os.close(handle)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return result
