"""What is still to be played, and what of it can start."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from mergearena.bench.games.base import Play


class Agenda:
    """Plays, in the order to start them in as far as they can.

    Args:
        plays: all of them.
        failed: the plays, by id, that are known to have given nothing.
    """

    def __init__(self, plays: Iterable[Play], failed: Collection[str]) -> None:
        self._waiting = deque(plays)
        self._unfinished = {play.id for play in self._waiting}
        self._failed = set(failed)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def next(self) -> Play | None:
        """Take the first play for which whatever it needs, or comes after, is finished."""
        for play in self._waiting:
            if self._is_ready(play):
                self._waiting.remove(play)
                return play
        return None

    def _is_ready(self, play: Play) -> bool:
        needs = play.needs
        return (needs is None or needs.id not in self._unfinished) and self._unfinished.isdisjoint(play.after or ())

    def is_blocked(self, play: Play) -> bool:
        """Whether there is nothing that it could start from."""
        return play.needs is not None and play.needs.id in self._failed

    def finish(self, play: Play, failed: bool = False) -> None:
        """A play is done with."""
        self._unfinished.discard(play.id)
        if failed:
            self._failed.add(play.id)
