"""Templates of players: short files that work as they are, to be changed into something better."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.atomic import write_text
from mergearena.bench.players.registry import registry

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write(kind: str, name: str, as_class: bool, folder: Path) -> Path:
    """Write the template of a kind of player into ``folder`` and return its path.

    Raises:
        ArenaError: the name is not lower-case words with dashes or is taken, or the file exists.
    """
    if not _NAME.fullmatch(name):
        raise ArenaError(f"{name!r}: a player's name is lower-case words joined by dashes, as in my-defense")
    if any(player.name == name for player in registry.players()):
        raise ArenaError(f"{name!r} is taken; `mergearena show {name}` tells by whom. Choose another name")
    path = folder / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise ArenaError(f"{path.name} exists already; nothing was written. Move it away, or choose another name")
    write_text(path, render(kind, name, as_class))
    return path


def render(kind: str, name: str, as_class: bool) -> str:
    """The template's text."""
    environment = Environment(
        loader=PackageLoader("mergearena.bench.submit", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    words = name.split("-")
    return environment.get_template(f"{kind}.py.jinja").render(
        name=name,
        function=name.replace("-", "_"),
        type="".join(word.capitalize() for word in words),
        title=" ".join(words).capitalize(),
        as_class=as_class,
    )
