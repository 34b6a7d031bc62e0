"""Whether anything changed that no submission may change: data, models and committed records, and the package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.hashing import sha256
from mergearena.bench.runner.confinement import confine

PACKAGE = Path(__file__).resolve().parents[2]
_ALWAYS = ("bench/suites/data", "bench/suites/zoo", "leaderboard/records", "leaderboard/submissions")
_PACKAGE = ("bench", "attacks", "defenses", "leaderboard")


class Seal:
    """The hashes of files, to be compared later.

    Where the kernel keeps players from writing at all, that goes for data, models and the committed board. Where it
    does not, it is the only guard, and goes for the package, too.
    """

    def __init__(self, *more: Path) -> None:
        """Seal these and ``more``."""
        guarded = _ALWAYS if confine.supported() is None else _PACKAGE
        self._roots = tuple(dict.fromkeys((*(PACKAGE / name for name in guarded), *more)))
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
    return {path: sha256(path) for path in files if path.is_file()}
