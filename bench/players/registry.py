"""Players by name: kinds, registration with closed traits, entry points, and lookups that say what you may have meant.

A kind of player registers itself, with the method that plays and the traits that its decorators take. Nothing is
registered after loading except where :meth:`Registry.opened` says so, and at the prompt of an interpreter.
"""

from __future__ import annotations

import copyreg
import difflib
import inspect
import pkgutil
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import update_wrapper
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from pydantic import create_model

from mergearena.bench.errors import ArenaError, UnknownName
from mergearena.bench.players.player import MadeConfig, Player, Trait

P = TypeVar("P", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Player])
ENTRY_POINTS = ("mergearena.defenses", "mergearena.attacks")
"""Groups through which installed packages (ours too) add players: each entry names a module to import."""

NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
"""A player's name stands in pipelines, on the board, and as a folder's name where it is submitted."""
NAMED_PATTERN = f"^{NAME.pattern}$"


@dataclass(frozen=True)
class Kind:
    """A kind of player: the class that its players extend, and the method that plays."""

    parent: type[Player]
    method: str

    @property
    def traits(self) -> Mapping[str, Trait]:
        """Name -> trait, of what its decorators take beside the name."""
        return {
            name: t for parent in reversed(self.parent.__mro__) for name, t in vars(parent).get("traits", {}).items()
        }


@dataclass
class Registry:
    """Who is there. The project has one, :data:`registry`; its parts may be read, and change by its methods only."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    _players: dict[str, type[Player]] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)
    _loaded: bool = False
    _open: int = 0

    def kind(self, method: str) -> Callable[[C], C]:
        """Class decorator: players of this kind extend the class, and ``method`` is what they do."""

        def add(parent: C) -> C:
            self.kinds[parent.kind] = Kind(parent, method)
            return parent

        return add

    def kind_of(self, name: str) -> Kind:
        """The kind of that name.

        Raises:
            UnknownName: there is none.
        """
        if name not in self.kinds:
            raise UnknownName(f"unknown kind of player {name!r}; there are: {', '.join(self.kinds)}")
        return self.kinds[name]

    def register(self, kind: str) -> Callable[..., Callable[[P], P]]:
        """The decorator factory of one kind: ``register("defense")("name")`` takes a class or a function.

        A function's keyword-only parameters become its config. The decorator takes the traits of the kind, such as
        ``paper`` or ``tier``, for functions and classes alike.
        """

        def named(name: str, **traits: Any) -> Callable[[P], P]:
            def add(target: P) -> P:
                given = self._attributes(name, kind, traits)
                player: Any = target if inspect.isclass(target) else self._of_function(kind, target)
                self._add(name, kind, player)
                for attribute, value in given.items():
                    setattr(player, attribute, value)
                return target

            return add

        return named

    def _attributes(self, name: str, kind: str, traits: Mapping[str, Any]) -> dict[str, Any]:
        """Traits as attributes of the class.

        Raises:
            ArenaError: a trait is unknown, or its value is of another type.
        """
        known = self.kind_of(kind).traits
        for trait in traits:
            if trait not in known:
                hint = _did_you_mean(trait, known) or f"it takes: {', '.join(known)}"
                raise ArenaError(f"{name!r}: a {kind} has no trait {trait!r}; {hint}")
        return {known[t].attribute or t: known[t].read(name, t, value) for t, value in traits.items()}

    def _of_function(self, kind: str, function: Callable[..., Any]) -> type[Player]:
        """A player class around a plain function."""
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        fields: dict[str, Any] = {
            p.name: (p.annotation, ... if p.default is p.empty else p.default)
            for p in parameters
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        }
        config = create_model(f"{function.__name__}_config", __base__=MadeConfig, **fields)

        def play(self: Player, *arguments: Any) -> Any:
            return function(*arguments, **{name: value for name, value in self.config})  # an option may be called keys

        update_wrapper(play, function, assigned=(), updated=())  # so that its source can be found
        made = self.kinds[kind]
        body = {made.method: play, "Config": config, "__doc__": function.__doc__, "__module__": function.__module__}
        return type(function.__name__, (made.parent,), body)

    def _add(self, name: str, kind: str, player: type[Player]) -> None:
        if self._loaded and not self._open and player.__module__ != "__main__":
            raise ArenaError(
                f"{name!r}: players are registered while they are loaded; give the file with --plugin, or decorate "
                "within `with registry.opened():`"
            )
        if player.kind != kind:
            raise ArenaError(f"{name!r} is registered as {kind} but is a {player.kind}; use the decorator of its kind")
        if not NAME.fullmatch(name):
            raise ArenaError(
                f"{name!r} is no name: it takes a lower-case letter, then letters, digits, dots and dashes"
            )
        if not (player.__doc__ or "").strip():
            raise ArenaError(f"{name!r} has no docstring; say what it computes and from which paper")
        other = self._players.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (player.__module__, player.__qualname__):
            ours, theirs = (f"{p.__module__}.{p.__qualname__}" for p in (player, other))
            raise ArenaError(f"the name {name!r} of {ours} is taken by {theirs}; choose another")
        player.name = name
        self._players[name] = player
        copyreg.pickle(player, _by_name)

    def forget(self, player: type[Player]) -> None:
        """Take a player out again: its name is free, and what was parsed with it stays as it is."""
        if self._players.get(player.name) is player:
            del self._players[player.name]

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let players be registered after loading, within the block."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Open within the block; afterwards everything is as it was before. The one way for tests to undo."""
        self.load()
        before = dict(self.kinds), dict(self._players), dict(self._broken), self._loaded
        try:
            with self.opened():
                yield
        finally:
            self.kinds, self._players, self._broken, self._loaded = before

    def load(self) -> None:
        """Import every entry point once. One that fails is noted in :meth:`broken` and stops nothing."""
        if self._loaded:
            return
        for group in ENTRY_POINTS:
            for entry in entry_points(group=group):
                try:
                    entry.load()
                except Exception as error:  # noqa: BLE001 - whatever a stranger's package raises
                    self._broken[entry.value] = f"{type(error).__name__}: {error}"
        self._loaded = True

    def broken(self) -> dict[str, str]:
        """Entry points that could not be imported, with the reason."""
        self.load()
        return dict(self._broken)

    def players(self, *kinds: str) -> Iterator[type[Player]]:
        """Every player of these kinds (of all, if none is named), by name."""
        self.load()
        return (p for _, p in sorted(self._players.items()) if not kinds or p.kind in kinds)

    def find(self, name: str, *kinds: str) -> type[Player]:
        """The player of that name.

        Raises:
            UnknownName: none of these kinds has it; the message suggests the nearest names.
        """
        known = {p.name: p for p in self.players(*kinds)}
        if name in known:
            return known[name]
        what = " or ".join(kinds) if kinds else "player"
        if name in self._players:
            raise UnknownName(f"{name!r} is a {self._players[name].kind}, not a {what}")
        hint = _did_you_mean(name, known) or f"there are: {', '.join(known)}"
        raise UnknownName(f"unknown {what} {name!r}; {hint}")


registry = Registry()


def _by_name(player: Player) -> tuple[Callable[..., Player], tuple[str, str, dict[str, Any]]]:
    """A player is pickled as its name and config: another process may know another class of that name, such as the
    stand-in of one whose file it does not import.
    """
    return _named, (player.name, player.kind, dict(player.config))


def _named(name: str, kind: str, config: Mapping[str, Any]) -> Player:
    return registry.find(name, kind)(**config)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near: Collection[str] = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def import_all(package: str) -> None:
    """Import every module below a package, so that its decorators run."""
    root = import_module(package)
    for module in pkgutil.walk_packages(root.__path__, prefix=f"{package}."):
        if not module.name.endswith(".builtin"):
            import_module(module.name)
