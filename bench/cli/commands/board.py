"""``mergearena leaderboard``: build, check, publish and add to the committed board; any records as a board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table

from mergearena.bench.errors import ArenaError
from mergearena.bench.files import atomic
from mergearena.bench.games import archive
from mergearena.bench.games.match import spell
from mergearena.bench.records import places
from mergearena.bench.records.record import Record
from mergearena.leaderboard.archive import publish as publishing
from mergearena.leaderboard.archive.check import check as problems_of
from mergearena.leaderboard.archive.publish import Changes
from mergearena.leaderboard.archive.rebuild import rebuild
from mergearena.leaderboard.archive.survey import Problem
from mergearena.leaderboard.board.build import build, to_json
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.page.render import render


def build_committed(folder: Path, console: Console) -> None:
    """Build the committed board: ``leaderboard.json``, ``index.html`` and ``plots`` of what lies below it.

    Raises:
        ArenaError: there is no record, or something is wrong with one.
    """
    found = rebuild(folder)
    console.print(f"{len(found.records)} records; board: {folder / 'leaderboard.json'}, page: {folder / 'index.html'}")


def build_from(roots: Sequence[Path], out: Path, console: Console) -> None:
    """Build a board of every record below these folders.

    Raises:
        ArenaError: a folder has none, a record is damaged, or two are of the same play.
    """
    found: dict[str, Record] = {}
    for root in roots:
        here = list(archive.read_all(root)) if root.is_dir() else []
        if not here:
            raise ArenaError(f"{root}: no records there; `mergearena run --records {root}` makes some")
        for record in here:
            if found.setdefault(record.id, record) is not record:
                raise ArenaError(f"{record.title} (seed {record.seed}) was recorded twice; delete one of the two files")
    write(build(found.values()), out, console)


def write(board: Leaderboard, out: Path, console: Console) -> None:
    """Print a board, and write it as JSON and as a page beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(out, to_json(board))
    page = out.with_suffix(".html")
    atomic.write_text(page, render(board))
    for name, suites in board.games.items():
        for suite in suites:
            console.print(board_of(name).terminal(suite))
    console.print(f"board: {out}   page: {page}")


def check(folder: Path, console: Console) -> bool:
    """Print what is wrong with the committed board, a line each; whether there is nothing."""
    problems = problems_of(folder)
    _print(problems, console)
    if not problems:
        console.print(f"{folder}: every record is whole, and board and page are what they say")
    return not problems


def _print(problems: Iterable[Problem], console: Console) -> None:
    """A line each, however long, so that a log can be searched."""
    for problem in problems:
        console.print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)


def publish(sources: Sequence[Path], folder: Path, console: Console, confirmed: bool = False) -> bool:
    """Copy a run's records to the official ones and build the board; nothing is written unless every record may be.

    Args:
        sources: folders of records.
        folder: the board's.
        console: where to show what changes.
        confirmed: write without asking.

    Returns:
        Whether it was done.

    Raises:
        ArenaError: a folder has no records.
    """
    for source in sources:
        if not source.is_dir() or not places.files(source):
            raise ArenaError(f"{source}: no records there; `mergearena run --records {source}` makes some")
    changes = publishing.plan(sources, folder)
    if changes.problems:
        _print(changes.problems, console)
        console.print(f"nothing was published: {len(changes.problems)} problems")
        return False
    console.print(_changes(changes))
    for before, after in changes.replaced:
        if before.score != after.score:
            console.print(f"another result: {after.title} on {spell(after.tasks)}, seed {after.seed}", markup=False)
    if changes.written and not confirmed:
        try:
            confirmed = Confirm.ask(
                f"write {len(changes.written)} records to {folder}?", console=console, default=False
            )
        except EOFError:
            console.print("\nnothing was published: add --yes to publish without being asked")
        if not confirmed:
            return False
    publishing.publish(changes, folder)
    build_committed(folder, console)
    return True


def _changes(changes: Changes) -> Table:
    """How many records publishing adds, replaces and leaves, by suite and track."""
    table = Table(title="official records", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("suite", "track", "added", "replaced", "unchanged", "failed plays"):
        table.add_column(name, justify="left" if name in ("suite", "track") else "right")
    kinds = (changes.added, [after for _, after in changes.replaced], changes.unchanged)
    everything = [record for kind in kinds for record in kind]
    for where in sorted({(record.suite, record.track) for record in everything}):
        here = [[record for record in kind if (record.suite, record.track) == where] for kind in kinds]
        failed = sum(record.status != "ok" for kind in here for record in kind)
        table.add_row(*where, *(str(len(kind)) for kind in here), str(failed))
    return table
