"""The rankings of a game's board, in one of which a scored player has its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import RenderableType

from mergearena.leaderboard.board.parts import SuitePart

B = TypeVar("B", bound=SuitePart)
Scores = Mapping[str, float | None]
"""Spelling -> score, or None for who has none."""


class Ranking(ABC, Generic[B]):
    """One ranking, on the boards of some suites."""

    @abstractmethod
    def has_rows(self, board: B) -> bool:
        """Whether a suite's board ranks anybody here."""

    @abstractmethod
    def sentence(self, spelling: str, mine: Sequence[B], among: Sequence[B], against: str) -> str:
        """The score of a player on the boards ``mine``, and its place among those of others, of whom ``against`` says
        who they are.
        """

    @abstractmethod
    def shown(self, spelling: str, board: B) -> Iterable[RenderableType]:
        """What of a suite's board concerns a player of it, for the terminal."""


@dataclass(frozen=True)
class ScoreRanking(Ranking[B]):
    """One whose rows have a score each, by which alone they are compared."""

    verb: str
    """What a player does with its score, as in ``recovers``."""
    higher: bool
    """Whether more is better."""

    @abstractmethod
    def scores(self, board: B) -> Scores:
        """The scores of everybody who can be the player."""

    def rivals(self, board: B) -> Scores:
        """The scores of everybody to compare it with."""
        return self.scores(board)

    def has_rows(self, board: B) -> bool:
        """Whether anybody is there, with a score or without."""
        return bool(self.scores(board))

    def sentence(self, spelling: str, mine: Sequence[B], among: Sequence[B], against: str) -> str:
        """Its score, and how many have a better one."""
        own = {name: score for board in mine for name, score in self.scores(board).items()}[spelling]
        if own is None:
            return f"{spelling} has no score: none of its plays finished on a match that counts"
        others = {name: score for board in among for name, score in self.rivals(board).items() if name != spelling}
        rivals = [score for score in others.values() if score is not None]
        ahead = sum((score > own) if self.higher else (score < own) for score in rivals)
        return f"{spelling} {self.verb} {own:.1%}: place {ahead + 1} of {len(rivals) + 1} {against}"
