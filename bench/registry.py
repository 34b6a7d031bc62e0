"""Players by name: registration, entry points, and lookups that say what you may have meant."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import create_model

from bench.errors import ArenaError, UnknownName
from bench.game import Align, Attack, CostClass, Defense, Kind, MadeConfig, Merge, Player, Recover, Tier
from bench.safe_merging import Backdoor, Repair, SafeMerge

P = TypeVar("P", bound=Callable[..., Any])
ENTRY_POINTS = ("mergearena.defenses", "mergearena.attacks")
"""Groups through which installed packages (ours too) add players: each entry names a module to import."""

NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
"""A player's name stands in pipelines, on the board, and as a folder's name where it is submitted."""
METHODS: dict[Kind, tuple[type[Player], str]] = {
    "defense": (Defense, "protect"),
    "align": (Align, "align"),
    "merge": (Merge, "merge"),
    "recover": (Recover, "recover"),
    "attack": (Attack, "attack"),
    "backdoor": (Backdoor, "contribute"),
    "sanitize": (SafeMerge, "merge"),
    "repair": (Repair, "repair"),
}
"""Kind -> the class of its players, and the method that plays."""
_players: dict[str, type[Player]] = {}
_broken: dict[str, str] = {}


def register(kind: Kind) -> Callable[..., Callable[[P], P]]:
    """The decorator factory of one kind: ``register("defense")("name")`` takes a class or a function.

    A function's keyword-only parameters become its config; ``paper``, ``tier``, ``cost`` (a :class:`CostClass`) and
    ``preserves_function`` are given to the decorator.
    """

    def named(
        name: str,
        *,
        paper: str = "",
        tier: Tier | str = "data-free",
        cost: CostClass | str = "elementwise",
        **traits: Any,
    ) -> Callable[[P], P]:
        given = {"paper": paper, "base_tier": Tier(tier), "cost_class": CostClass(cost), **traits}

        def add(target: P) -> P:
            player: Any = target if inspect.isclass(target) else _from_function(kind, target, **given)
            _add(name, kind, player)
            return target

        return add

    return named


def _from_function(kind: Kind, function: Callable[..., Any], **traits: Any) -> type[Player]:
    """A player class around a plain function."""
    parent, method = METHODS[kind]
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    fields: dict[str, Any] = {
        p.name: (p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    config = create_model(f"{function.__name__}_config", __base__=MadeConfig, **fields)

    def play(self: Player, *arguments: Any) -> Any:
        return function(*arguments, **{name: value for name, value in self.config})  # an option may be called keys

    body = {method: play, "Config": config, "__doc__": function.__doc__, "__module__": function.__module__}
    return type(function.__name__, (parent,), {**body, **traits})


def _add(name: str, kind: Kind, player: type[Player]) -> None:
    if player.kind != kind:
        raise ArenaError(f"{name!r} is registered as {kind} but is a {player.kind}; use the decorator of its kind")
    if not NAME.fullmatch(name):
        raise ArenaError(f"{name!r} is no name: it takes a lower-case letter, then letters, digits, dots and dashes")
    if not (player.__doc__ or "").strip():
        raise ArenaError(f"{name!r} has no docstring; say what it computes and from which paper")
    other = _players.get(name)
    if other is not None and (other.__module__, other.__qualname__) != (player.__module__, player.__qualname__):
        ours, theirs = (f"{p.__module__}.{p.__qualname__}" for p in (player, other))
        raise ArenaError(f"the name {name!r} of {ours} is taken by {theirs}; choose another")
    player.name = name
    _players[name] = player


def forget(player: type[Player]) -> None:
    """Take a player out again: its name is free, and what was parsed with it stays as it is."""
    if _players.get(player.name) is player:
        del _players[player.name]


@cache
def load() -> None:
    """Import every entry point once. One that fails is noted in :func:`broken` and stops nothing."""
    for group in ENTRY_POINTS:
        for entry in entry_points(group=group):
            try:
                entry.load()
            except Exception as error:  # noqa: BLE001 - whatever a stranger's package raises
                _broken[entry.value] = f"{type(error).__name__}: {error}"


def broken() -> dict[str, str]:
    """Entry points that could not be imported, with the reason."""
    load()
    return dict(_broken)


def players(*kinds: Kind) -> Iterator[type[Player]]:
    """Every player of these kinds (of all, if none is named), by name."""
    load()
    return (p for _, p in sorted(_players.items()) if not kinds or p.kind in kinds)


def find(name: str, *kinds: Kind) -> type[Player]:
    """The player of that name.

    Raises:
        UnknownName: none of these kinds has it; the message suggests the nearest names.
    """
    known = {p.name: p for p in players(*kinds)}
    if name in known:
        return known[name]
    what = " or ".join(kinds) if kinds else "player"
    if name in _players:
        raise UnknownName(f"{name!r} is a {_players[name].kind}, not a {what}")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are: {', '.join(known)}"
    raise UnknownName(f"unknown {what} {name!r}; {hint}")


def import_all(package: str) -> None:
    """Import every module below a package, so that its decorators run."""
    root = import_module(package)
    for module in pkgutil.walk_packages(root.__path__, prefix=f"{package}."):
        if not module.name.endswith(".builtin"):
            import_module(module.name)


def plugin_module(path: Path) -> str:
    """The name of the module that a file is imported as."""
    return f"mergearena_plugin_{path.stem}"


def load_plugin(path: Path) -> None:
    """Import a file so that its decorators register its players.

    Raises:
        ArenaError: there is no such file, or importing it fails.
    """
    spec = importlib.util.spec_from_file_location(plugin_module(path), path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArenaError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ArenaError:
        raise
    except Exception as error:  # whatever a stranger's file raises
        raise ArenaError(f"{path}: importing it raised {type(error).__name__}: {error}") from error
