"""The plots that others show, as PNG: some of the page's, on light paper, with names for their letters.

A picture carries the digest of what it shows. That says whether it is stale, where its pixels would not: those depend
on the fonts and the renderer of whoever drew it. So pictures are drawn again only when what they show has changed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mergearena.bench.errors import ArenaError
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.charts.scatter import specification, to_png
from mergearena.leaderboard.page.anchors import slug

FOLDER = "plots"
_DIGEST = "shows"
"""Name of the text in a PNG that is the SHA-256 of its specification."""


def specifications(board: Leaderboard) -> dict[str, str]:
    """Path below the board's folder -> what the picture shows, as Vega-Lite JSON.

    Raises:
        ArenaError: two games have a picture of one name.
    """
    found: dict[str, str] = {}
    for name, suites in board.games.items():
        side = board_of(name)
        for suite in suites:
            for what, chart in side.pictures(suite):
                path = f"{FOLDER}/{slug(suite.suite)}-{what}.png"
                if path in found:
                    raise ArenaError(f"{path}: two games have a picture of that name; rename that of {name}")
                found[path] = specification(chart, background="var(--paper)")
    return found


def write(board: Leaderboard, folder: Path) -> None:
    """Draw the pictures of a board that are missing or stale, and delete those of what is no longer on it.

    Raises:
        OSError: a file cannot be written; no other is touched.
    """
    wanted = specifications(board)
    (folder / FOLDER).mkdir(exist_ok=True)
    for path in outdated(wanted, folder):
        name = path.relative_to(folder).as_posix()
        if name in wanted:
            _draw(wanted[name], path)
        else:
            path.unlink()


def outdated(wanted: Mapping[str, str], folder: Path) -> list[Path]:
    """The pictures below a folder that are missing, show something else, or belong to nothing."""
    present = {path.relative_to(folder).as_posix() for path in (folder / FOLDER).glob("*.png")}
    stale = {name for name, spec in wanted.items() if name not in present or _shown(folder / name) != _digest(spec)}
    return sorted(folder / name for name in stale | (present - wanted.keys()))


def _draw(spec: str, path: Path) -> None:
    """Write a picture whole or not at all, with the digest of what it shows."""
    told = PngInfo()
    told.add_text(_DIGEST, _digest(spec))
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        # A palette makes flat colours a tenth of the size.
        Image.open(BytesIO(to_png(spec))).convert("RGB").quantize(128).save(scratch, "PNG", optimize=True, pnginfo=told)
        os.replace(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _digest(spec: str) -> str:
    return hashlib.sha256(spec.encode()).hexdigest()


def _shown(path: Path) -> str | None:
    """The digest that a picture carries, if it is one and does."""
    try:
        with Image.open(path) as picture:
            return picture.info.get(_DIGEST)
    except OSError:  # not a picture
        return None
