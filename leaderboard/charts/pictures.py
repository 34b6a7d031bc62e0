"""The plots that others show, as PNG: some of the page's, on light paper, with names for their letters.

A picture carries the digest of what it shows. That says whether it is stale, where its pixels would not: those depend
on the fonts and the renderer of whoever drew it. So pictures are drawn again only when what they show has changed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import altair as alt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.backdoor.parts import BackdoorBoard
from mergearena.leaderboard.backdoor.plots import asr_against_score, succession_against_transfer
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.charts.labels import key
from mergearena.leaderboard.charts.scatter import debug_mode, specification, to_png
from mergearena.leaderboard.page.anchors import slug
from mergearena.leaderboard.protection import plots
from mergearena.leaderboard.protection.parts import SuiteBoard

FOLDER = "plots"
_DIGEST = "shows"
"""Name of the text in a PNG that is the SHA-256 of its specification."""
_LINE = 15
"""Pixels from one name to the next."""

Named = Sequence[tuple[str, str]]
"""Letters and what they stand for."""


def specifications(board: Leaderboard) -> dict[str, str]:
    """Path below the board's folder -> what the picture shows, as Vega-Lite JSON."""
    shown = [found for suite in board.protection for found in _protection(suite)]
    shown += [_backdoor(suite) for suite in board.backdoor]
    return {f"{FOLDER}/{name}.png": specification(chart, background="var(--paper)") for name, chart in shown}


def _protection(board: SuiteBoard) -> Iterator[tuple[str, alt.VConcatChart]]:
    defenses = [(key(place), row.defense) for place, row in enumerate(board.defenses)]
    panels = [plots.resistance_against_cost(board, tier) for tier in Tier]
    yield f"{slug(board.suite)}-resistance-against-cost", _titled(panels, defenses, columns=3)
    fronts = {letter: row.attack for tier in Tier for letter, row in plots.front(board, tier)}
    panels = [plots.recovered_against_cost(board, tier) for tier in Tier]
    yield f"{slug(board.suite)}-recovered-against-cost", _titled(panels, sorted(fronts.items()), columns=1)


def _backdoor(board: BackdoorBoard) -> tuple[str, alt.VConcatChart]:
    mergers = [(key(place), row.defense) for place, row in enumerate(board.mergers)]
    panels = [asr_against_score(board), succession_against_transfer(board)]
    return f"{slug(board.suite)}-asr-against-score", _titled(panels, mergers, columns=2)


def _titled(panels: Sequence[alt.LayerChart], names: Named, columns: int) -> alt.VConcatChart:
    """Panels side by side, and below them what their letters stand for."""
    with debug_mode(False):
        width = sum(int(panel.width) + 60 for panel in panels)
        rows = -(-len(names) // columns)
        spots = [(place // rows * width // columns, place % rows * _LINE) for place in range(len(names))]
        values = [
            {"letter": letter, "name": name, "x": x, "y": y}
            for (letter, name), (x, y) in zip(names, spots, strict=True)
        ]
        text = alt.Chart(alt.Data(values=values)).encode(x=alt.X("x:Q", scale=None), y=alt.Y("y:Q", scale=None))
        letters = text.mark_text(align="left", color="var(--ink)", fontSize=11, fontWeight=600).encode(text="letter:N")
        spelled = text.mark_text(align="left", color="var(--ink)", fontSize=11, dx=22).encode(text="name:N")
        legend = alt.LayerChart(layer=[letters, spelled], width=width, height=rows * _LINE)
        return alt.VConcatChart(vconcat=[alt.HConcatChart(hconcat=list(panels)), legend], spacing=20)


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
