"""What lies below a board's folder -> its board, page and pictures, beside it."""

from __future__ import annotations

from pathlib import Path

from mergearena.bench.errors import ArenaError
from mergearena.bench.files import atomic
from mergearena.leaderboard.archive.survey import Committed, survey
from mergearena.leaderboard.page import pictures
from mergearena.leaderboard.page.render import texts


def whole(folder: Path) -> Committed:
    """What a board is built from.

    Raises:
        ArenaError: something is wrong with it.
    """
    found = survey(folder)
    if found.problems:
        rest = f" ({len(found.problems) - 1} more; see `mergearena leaderboard check`)" if found.problems[1:] else ""
        raise ArenaError(f"{found.problems[0]}{rest}")
    return found


def rebuild(folder: Path) -> Committed:
    """Write ``leaderboard.json``, ``index.html`` and ``plots`` of what lies below the folder, and return that.

    Raises:
        ArenaError: there is no record, or something is wrong with one.
        OSError: a file cannot be written.
    """
    found = whole(folder)
    if not found.records:
        raise ArenaError(f"{folder}: no records there; `mergearena leaderboard publish --records DIR` adds some")
    board = found.board()
    for name, text in texts(board).items():
        atomic.write_text(folder / name, text)
    pictures.write(board, folder)
    return found
