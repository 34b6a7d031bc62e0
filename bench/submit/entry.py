"""A submitted player as what it is: a role knows how such a player is spelled, tried on toys and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from mergearena.bench.games.base import Play
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.stand_in import Declaration
from mergearena.bench.submit import toys

TOY_EXAMPLES = 16
"""Examples per task of the data tiers on toys."""


class Spelled(Protocol):
    """What is parsed of a spelling."""

    @property
    def spelling(self) -> str:
        """The canonical one."""


P = TypeVar("P", bound=Spelled)


@dataclass(frozen=True)
class Entry(ABC, Generic[P]):
    """A submitted player; each role subclasses it. A stand-in for it must be registered before anything is parsed."""

    player: Declaration
    pipeline: str | None = None
    """The whole attack or merger that it is scored in, if not the usual one of its role."""

    track: ClassVar[str]
    """The game that it plays."""
    side: ClassVar[Literal["defense", "attack"]]
    """Which side of the game."""
    table: ClassVar[str]
    """The table of the board in which it has a row."""
    on_toys: ClassVar[str] = "{}"
    """What stands around it when it is tried."""
    in_score: ClassVar[str] = "{}"
    """What stands around it when it is scored, unless the submitter says otherwise."""
    protects: ClassVar[bool] = False
    """Whether it rewrites a victim, of whose skill and function something must be left, unlike any other time."""
    merges: ClassVar[bool] = False
    """Whether it makes one model of several, each of which must count."""
    reads: ClassVar[bool] = True
    """Whether it declares what it reads beyond weights, as its tier."""

    @abstractmethod
    def parse(self, text: str) -> P:
        """Read a whole defense, attack or merger."""

    @cached_property
    def tried(self) -> P:
        """The whole in which it is tried on toys."""
        return self.parse(self.on_toys.format(self.player.name))

    @cached_property
    def scored(self) -> P:
        """The whole in which it is scored.

        Raises:
            ArenaError: the submitter's pipeline does not parse.
        """
        return self.parse(self.pipeline or self.in_score.format(self.player.name))

    @property
    def spelling(self) -> str:
        """What records and boards call it."""
        return self.scored.spelling

    @abstractmethod
    def plan(self, suite: str, preset: str, key: str) -> Sequence[Play]:
        """What it is scored on, under a key that nobody has seen.

        Raises:
            ArenaError: the submitter's pipeline does not parse.
        """

    def trial(self, family: str, key: str, seed: int, exchanged: str = "") -> Play:
        """The play that tries it on the toy of a family; ``exchanged`` is the task, if any, that has another model."""
        held = protocol(toys.suite_name(family), toys.TASKS, key, TOY_EXAMPLES)
        return self._trial(protocol=held, seed=seed, submitted=self.player.name, exchanged=exchanged)

    @abstractmethod
    def _trial(self, **common: Any) -> Play:
        """The same, given what every role's has in common."""
