"""Suites by name: a folder here, an installed package, or a class of your own.

A folder declares its suites in its ``__init__``, which imports nothing: ``SUITES = {"text": "suite:TextSuite"}``,
name -> module of the folder and class. A package declares them as entry points ``mergearena.suites``.
"""

from __future__ import annotations

import difflib
import os
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from mergearena.bench.errors import ArenaError, UnknownName
from mergearena.bench.suites.base import Split, Suite, Task

ENTRY_POINTS = "mergearena.suites"
"""Group through which installed packages add suites: each entry is a name and its ``module:Class``."""


def private() -> tuple[Path, ...]:
    """What no player may read of this project's suites, whichever suite it plays on: data and fine-tuned models."""
    here = Path(__file__).parent
    models = (path for path in (here / "zoo").glob("*.safetensors") if path.stem != "base")
    return (here / "data", *models, cache_folder())


def cache_folder() -> Path:
    """Where models are kept that are built on first use."""
    return Path(os.environ.get("MERGEARENA_CACHE") or Path.home() / ".cache" / "mergearena")


def names() -> tuple[str, ...]:
    """The suites that can be asked for; none of them is imported."""
    return tuple(_known())


@cache
def get(name: str) -> Suite:
    """The suite of that name, loaded once. ``module:Class`` names a suite of your own.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    known = _known()
    module, _, attribute = known.get(name, name).partition(":")
    if not attribute:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}, or your own module:Class"
        raise UnknownName(f"unknown suite {name!r}; {hint}")
    try:
        return getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        if name in known:
            raise
        raise UnknownName(f"suite {name!r} could not be loaded: {error}") from error


@cache
def _known() -> dict[str, str]:
    """Name -> ``module:Class`` of every suite that is declared, this project's first.

    Raises:
        ArenaError: two suites have the same name.
    """
    known: dict[str, str] = {}
    for name, target in _declared():
        if known.setdefault(name, target) != target:
            raise ArenaError(f"two suites are called {name!r}, {known[name]} and {target}: uninstall or rename one")
    return known


def _declared() -> Iterator[tuple[str, str]]:
    for folder in pkgutil.iter_modules(__path__, f"{__name__}."):
        if folder.ispkg:
            suites = getattr(import_module(folder.name), "SUITES", {})
            yield from ((name, f"{folder.name}.{target}") for name, target in suites.items())
    yield from ((entry.name, entry.value) for entry in entry_points(group=ENTRY_POINTS))


__all__ = ["Split", "Suite", "Task", "get", "names"]
