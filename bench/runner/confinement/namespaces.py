"""Namespaces of a player's own: System V objects, sockets, host name, control groups, and a file system to read.

They need no privileges where the kernel lets users make user namespaces. In the new mount namespace everything but
the working folder is read-only, so that no file's mode, owner, times or attributes can be changed, nor its time of
last access by reading it. Processes get no namespace of their own: its first one would have to be forked for each
play, and the player, which can neither fork nor signal, has nothing to gain from seeing others' numbers.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from functools import cache
from pathlib import Path

from mergearena.bench.runner.confinement import kernel

_USER = 0x10000000
_NEW = {"mount": 0x00020000, "ipc": 0x08000000, "net": 0x40000000, "uts": 0x04000000, "cgroup": 0x02000000}
_BIND, _PRIVATE = 4096, 1 << 18
_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_READ_ONLY, _NO_SET_USER_ID = 1, 2


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user"))


@cache
def offered() -> tuple[str, ...]:
    """The namespaces that this system gives, found out by a process that tries; empty if it gives them not whole.

    A half-made one could leave a player without a folder to write to, so none is entered unless all can be.
    """
    ways = ((), ("user",)) if os.geteuid() == 0 else (("user",),)
    with tempfile.TemporaryDirectory() as folder:
        return next((way for more in ways if _works(way := (*more, *_NEW), Path(folder))), ())


def enter(own: Path) -> tuple[str, ...]:
    """Move this process, which must have one thread, to namespaces of its own, and back into its working folder.

    Returns:
        Their names, those of :func:`offered`.

    Raises:
        OSError: the kernel refused what it had offered.
    """
    names = offered()
    if names:
        _enter(names, own)
    return names


def _enter(names: tuple[str, ...], own: Path) -> None:
    user, group = os.geteuid(), os.getegid()
    if "user" in names:
        kernel.unshare(_USER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    kernel.unshare(sum(_NEW.values()))
    _set("/", _Attributes(propagation=_PRIVATE))
    kernel.mount(bytes(own), bytes(own), _BIND)
    _set("/", _Attributes(set=_READ_ONLY | _NO_SET_USER_ID))
    _set(str(own), _Attributes(clear=_READ_ONLY))
    os.chdir(own)  # the former one lies below the mount


def _set(folder: str, attributes: _Attributes) -> None:
    """Set attributes of the mount at a folder, and those below it; see mount_setattr(2)."""
    size = ctypes.sizeof(attributes)
    kernel.call(
        _MOUNT_SETATTR, _AT_FDCWD, ctypes.c_char_p(folder.encode()), _AT_RECURSIVE, ctypes.byref(attributes), size
    )


def _works(names: tuple[str, ...], folder: Path) -> bool:
    """Whether a process can enter them and write to its folder."""
    child = os.fork()
    if child == 0:
        try:
            _enter(names, folder)
            (folder / "written").touch()
            os._exit(0)
        except OSError:
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0
