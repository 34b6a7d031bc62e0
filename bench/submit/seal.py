"""Whether anything changed that no submission may change: the package, its data and models, the committed records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import bench
from bench.errors import ArenaError

PACKAGE = Path(bench.__file__).resolve().parent.parent
_OURS = ("bench", "attacks", "defenses", "leaderboard")


class Seal:
    """The hashes of everything below some folders, to be compared later."""

    def __init__(self, *more: Path) -> None:
        """Seal the package and a board's records, and ``more``."""
        self._roots = tuple(dict.fromkeys((*(PACKAGE / name for name in _OURS), *more)))
        self._before = _hashes(self._roots)

    def check(self) -> None:
        """Compare.

        Raises:
            ArenaError: a file was changed, added or removed; the message names it and says how to undo that.
        """
        now = _hashes(self._roots)
        changed = sorted(p for p in now.keys() | self._before.keys() if now.get(p) != self._before.get(p))
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise ArenaError(
                f"{changed[0]}{more} changed while the submission ran; restore the package (git checkout, or install "
                "it again) before you trust any result"
            )


def _hashes(roots: Iterable[Path]) -> dict[Path, str]:
    files = (p for root in roots for p in root.rglob("*") if "__pycache__" not in p.parts)
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
