"""``mergearena leaderboard``: build, check, publish and add to the committed board; any records as a board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import records
from bench.errors import ArenaError
from bench.records import Record
from bench.tracks import TRACKS
from leaderboard.board import Leaderboard
from leaderboard.build import build, texts, to_json
from leaderboard.check import check as problems_of
from leaderboard.committed import survey
from leaderboard.page import render


def build_committed(folder: Path, console: Console) -> None:
    """Build the committed board: ``leaderboard.json`` and ``index.html`` of what lies below its folder.

    Raises:
        ArenaError: there is no record, or something is wrong with one.
    """
    found = survey(folder)
    if found.problems:
        rest = f" ({len(found.problems) - 1} more; see `mergearena leaderboard check`)" if found.problems[1:] else ""
        raise ArenaError(f"{found.problems[0]}{rest}")
    if not found.records:
        raise ArenaError(f"{folder}: no records there; `mergearena leaderboard publish --records DIR` adds some")
    board = build(found.records.values())
    for name, text in texts(board).items():
        records.write_text(folder / name, text)
    console.print(f"{len(found.records)} records; board: {folder / 'leaderboard.json'}, page: {folder / 'index.html'}")


def build_from(roots: Sequence[Path], out: Path, console: Console) -> None:
    """Build a board of every record below these folders.

    Raises:
        ArenaError: a folder has none, a record is damaged, or two are of the same play.
    """
    found: dict[str, Record] = {}
    for root in roots:
        here = list(records.read_all(root)) if root.is_dir() else []
        if not here:
            raise ArenaError(f"{root}: no records there; `mergearena run --records {root}` makes some")
        for record in here:
            if found.setdefault(record.id, record) is not record:
                raise ArenaError(f"{record.title} (seed {record.seed}) was recorded twice; delete one of the two files")
    write(build(found.values()), out, console)


def write(board: Leaderboard, out: Path, console: Console) -> None:
    """Print a board, and write it as JSON and as a page beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    records.write_text(out, to_json(board))
    page = out.with_suffix(".html")
    records.write_text(page, render(board))
    for track in TRACKS.values():
        for part in track.shown(board):
            console.print(part)
    console.print(f"board: {out}   page: {page}")


def check(folder: Path, console: Console) -> bool:
    """Print what is wrong with the committed board, a line each; whether there is nothing."""
    problems = problems_of(folder)
    for problem in problems:
        console.print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)
    if not problems:
        console.print(f"{folder}: every record is whole, and board and page are what they say")
    return not problems
