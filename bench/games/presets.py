"""Presets as data: TOML files beside a game say what each of its named grids plays.

``lists.toml`` holds what several grids share: ``[fragments]``, parts of spellings, and ``[lists]``, spellings by name.
In any list ``@name`` stands for the spellings of a list above it, and ``$name`` within a spelling for a fragment.
``grids.toml`` has a table for every preset; its table ``on.SUITE`` holds what is different on one suite.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, ValidationError

from mergearena.bench.errors import ArenaError, UnknownName
from mergearena.bench.records.fields import Strict

Lists = Mapping[str, tuple[str, ...]]


class Grid(Strict):
    """What a preset plays on a suite; a game adds its matches."""

    seeds: tuple[int, ...] = (0,)
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Those of either side that are left out."""


class _Shared(Strict):
    fragments: dict[str, str] = Field(default_factory=dict)
    lists: dict[str, tuple[str, ...]]


G = TypeVar("G", bound=Grid)


@dataclass(frozen=True)
class Presets(Generic[G]):
    """The presets of one game, their spellings in full."""

    lists: Lists
    _grids: Mapping[str, Mapping[str, G]]
    """Preset -> suite, or empty for any other -> its grid."""

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self._grids)

    def grid(self, name: str, suite: str) -> G:
        """What the preset of that name plays on a suite.

        Raises:
            UnknownName: there is none of that name.
        """
        if name not in self._grids:
            raise UnknownName(f"unknown preset {name!r}; there are: {', '.join(self._grids)}")
        on = self._grids[name]
        return on.get(suite, on[""])


def read_presets(folder: Path, grid: type[G]) -> Presets[G]:
    """The presets that the files of a folder hold, each grid one of ``grid``.

    Raises:
        ArenaError: a file does not fit; the message names it and the place.
    """
    path = folder / "lists.toml"
    shared = read_toml(path, _Shared)
    lists: dict[str, tuple[str, ...]] = {}
    for name, items in shared.lists.items():
        lists[name] = _spelled(items, shared.fragments, lists, f"{path}: {name}")
    path = folder / "grids.toml"
    grids: dict[str, dict[str, G]] = {}
    for name, fields in _parsed(path).items():
        on = fields.pop("on", {})
        grids[name] = {
            suite: _complete(fields | changes, grid, shared.fragments, lists, f"{path}: {name}")
            for suite, changes in {"": {}, **on}.items()
        }
    return Presets(lists, grids)


def _complete(fields: dict[str, Any], grid: type[G], fragments: Mapping[str, str], lists: Lists, where: str) -> G:
    """A grid with its spellings in full, and without those that it leaves out."""
    read = _validated(fields, grid, where)
    defenses, attacks, without = (
        _spelled(items, fragments, lists, where) for items in (read.defenses, read.attacks, read.without)
    )
    if strange := [item for item in without if item not in (*defenses, *attacks)]:
        raise ArenaError(f"{where}: it leaves out {strange[0]!r}, which it has not; correct 'without'")
    kept = {
        side: tuple(item for item in items if item not in without)
        for side, items in (("defenses", defenses), ("attacks", attacks))
    }
    return read.model_copy(update={**kept, "without": ()})


def _spelled(items: Sequence[str], fragments: Mapping[str, str], lists: Lists, where: str) -> tuple[str, ...]:
    """A list with its references replaced."""
    found: list[str] = []
    for item in items:
        if item.startswith("@"):
            if item[1:] not in lists:
                raise ArenaError(f"{where}: {item} names no list above it; there are: {', '.join(lists)}")
            found += lists[item[1:]]
        else:
            try:
                found.append(Template(item).substitute(fragments))
            except (KeyError, ValueError):
                known = ", ".join(fragments)
                raise ArenaError(f"{where}: {item!r} names no fragment that there is; there are: {known}") from None
    return tuple(found)


M = TypeVar("M", bound=BaseModel)


def read_toml(path: Path, model: type[M]) -> M:
    """A TOML file as a model.

    Raises:
        ArenaError: it is missing, no TOML, or does not fit; the message names it and the place.
    """
    return _validated(_parsed(path), model, str(path))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArenaError(f"{path}: it cannot be read as TOML ({error}); restore the file") from None


def _validated(fields: Mapping[str, Any], model: type[M], where: str) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ArenaError(f"{where}: {place}: {first['msg']}; correct the file") from None
