"""Is a committed board what its records say, and are its records as they were written?"""

from __future__ import annotations

from pathlib import Path

from mergearena.leaderboard.archive.survey import Problem, survey
from mergearena.leaderboard.page import pictures
from mergearena.leaderboard.page.render import texts


def check(folder: Path) -> list[Problem]:
    """Everything that is wrong with a board's folder; empty if it may be published."""
    found = survey(folder)
    if found.problems:
        return found.problems  # a board of bad records would be stale as well, which tells nothing new
    board = found.board()
    expected = texts(board)
    present = {name: (folder / name).read_bytes() for name in expected if (folder / name).is_file()}
    if not found.records and not present:
        return []
    stale = [folder / name for name, text in expected.items() if present.get(name) != text.encode()]
    stale += pictures.outdated(pictures.specifications(board), folder)
    remedy = "run `mergearena leaderboard build` and commit what it writes"
    return [Problem(path, "it is stale", remedy) for path in stale]
