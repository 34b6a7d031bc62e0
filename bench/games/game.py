"""What the rest of the project knows of a game, and which games there are: they are found, and listed nowhere.

A game of this project is a folder beside this file with a module ``game`` that defines ``GAME``. Installed packages add
others through the entry-point group ``mergearena.games``: each entry bears a game's name and leads to its
:class:`Game`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from mergearena.bench.errors import ArenaError, UnknownName

if TYPE_CHECKING:
    from mergearena.bench.games.base import Play
    from mergearena.bench.games.grid import Options
    from mergearena.bench.records.record import Record

ENTRY_POINTS = "mergearena.games"
_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Game:
    """One game, as everything outside its own folders sees it."""

    name: str
    """That of its folder or entry point; what ``--track`` takes and its records bear."""
    title: str
    """What it is about, in a word or two."""
    summary: str
    """Who plays against whom, in a sentence for the command line."""
    record: type[Record]
    """What it records."""
    plan: Callable[[Options], Sequence[Play]]
    """The plays that a run is asked for, in the order to run them."""
    presets: tuple[str, ...]
    """The names of its grids, the smallest first."""
    board: str
    """``module:attribute`` of its side of the board, which nothing below the board imports."""
    order: int = 1000
    """Games of smaller numbers come first on the board; those of equal ones in the order of their names."""


@dataclass
class Games:
    """Which games there are. The project has one of these, :data:`games`."""

    _found: dict[str, Game] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)
    _loaded: bool = False

    @property
    def own(self) -> tuple[str, ...]:
        """The names of this project's games, of which its board is made."""
        return tuple(sorted(path.parent.name for path in _HERE.glob("*/game.py")))

    def every(self) -> tuple[Game, ...]:
        """Every game, in the order in which the board shows them.

        Raises:
            ArenaError: two games have one name.
        """
        self._load()
        return tuple(sorted(self._found.values(), key=lambda game: (game.order, game.name)))

    def find(self, name: str) -> Game:
        """The game of that name.

        Raises:
            UnknownName: there is none; the message lists those there are.
        """
        known = {game.name: game for game in self.every()}
        if name not in known:
            raise UnknownName(f"unknown track {name!r}; there are: {', '.join(known)}")
        return known[name]

    def broken(self) -> dict[str, str]:
        """Entry points that lead to no game, with the reason."""
        self._load()
        return dict(self._broken)

    @contextmanager
    def added(self, game: Game) -> Iterator[None]:
        """Have one more game within the block, as if it were installed.

        Raises:
            ArenaError: another game has its name.
        """
        self._load()
        before = self._found
        self._found = _with(before, game)
        try:
            yield
        finally:
            self._found = before

    def _load(self) -> None:
        """Import every game once. One of another package that fails is noted in :meth:`broken` and stops nothing."""
        if self._loaded:
            return
        found: dict[str, Game] = {}
        for name in self.own:
            found = _with(found, import_module(f"{__package__}.{name}.game").GAME)
        entries = {(entry.name, entry.value): entry for entry in entry_points(group=ENTRY_POINTS)}
        for (name, value), entry in sorted(entries.items()):
            try:
                game = entry.load()
            except Exception as error:  # noqa: BLE001 - whatever a stranger's package raises
                self._broken[value] = f"{type(error).__name__}: {error}"
                continue
            if isinstance(game, Game) and game.name == name:
                found = _with(found, game)
            else:
                self._broken[value] = f"it is no Game named {name!r}, as its entry point is"
        self._found, self._loaded = found, True


def _with(found: dict[str, Game], game: Game) -> dict[str, Game]:
    if (other := found.get(game.name)) is not None:
        raise ArenaError(
            f"two games are named {game.name!r}, by their boards {other.board} and {game.board}; "
            "rename one, or uninstall its package"
        )
    return {**found, game.name: game}


games = Games()
