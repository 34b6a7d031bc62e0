"""The games' sides of the board: what build, page, pictures and terminal ask of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from rich.console import RenderableType

from mergearena.bench.games.game import games
from mergearena.leaderboard.board.parts import SuitePart
from mergearena.leaderboard.board.rankings import Ranking

if TYPE_CHECKING:
    import altair as alt

B = TypeVar("B", bound=SuitePart)


class Shown(Protocol):
    """A suite's board as the page shows it; the rest is between it and its game's template."""

    id: str
    """Of its section, such as ``protection/embedded``: where links lead to."""
    suite: str


class GameBoard(ABC, Generic[B]):
    """One game's side of the board: of each suite's records a :class:`.SuitePart`, and all that is made of these.

    Plays and records are the game's own.
    """

    part: type[B]
    """The board of one suite."""
    rankings: ClassVar[Mapping[str, Ranking[Any]]] = {}
    """The rankings in which a submitted player may have its place, by name."""
    templates: ClassVar[Path]
    """Folder of ``suite.html.jinja``, a section of the page, and ``reading.html.jinja``, what its terms mean (empty
    for none). There they are included as ``NAME/FILE``, by the name of the game."""
    numbers: ClassVar[Mapping[str, object]] = {}
    """What its templates know beyond sections, such as thresholds."""

    @abstractmethod
    def build(self, suite: str, records: Sequence[Any]) -> B:
        """The board of one suite from its records, which come in the order of their ids."""

    @abstractmethod
    def terminal(self, board: B) -> RenderableType:
        """The whole board of one suite, for the terminal."""

    @abstractmethod
    def so_far(self, plays: Sequence[Any], boards: Sequence[B]) -> Sequence[RenderableType]:
        """Everything that a run under way has planned, and what is known of it."""

    @abstractmethod
    def section(self, board: B) -> Shown:
        """What the page's templates ask of a suite's board."""

    @abstractmethod
    def pictures(self, board: B) -> Iterator[tuple[str, alt.VConcatChart]]:
        """Names, unlike those of other games, and charts of the plots that others show."""


def board_of(name: str) -> GameBoard[Any]:
    """The side of the board of the game of that name.

    Raises:
        UnknownName: there is no such game.
    """
    module, _, attribute = games.find(name).board.partition(":")
    return getattr(import_module(module), attribute)
