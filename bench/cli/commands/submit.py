"""``mergearena submit``: what a submitter sees."""

from __future__ import annotations

import getpass
import secrets
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mergearena.bench import suites
from mergearena.bench.cli.asked.submit import ScoreOptions
from mergearena.bench.cli.commands import zoo
from mergearena.bench.cli.commands.run import shown
from mergearena.bench.errors import ArenaError
from mergearena.bench.files.atomic import write_text
from mergearena.bench.games.archive import adopt
from mergearena.bench.players.roster import Roster
from mergearena.bench.players.stand_in import Declaration, stand_in
from mergearena.bench.records.record import Record
from mergearena.bench.runner.run import Summary, run
from mergearena.bench.submit import gates, template
from mergearena.bench.submit.entry import Entry
from mergearena.bench.submit.roles import entry_of
from mergearena.bench.submit.seal import Seal
from mergearena.leaderboard.archive.submission import write_submission
from mergearena.leaderboard.archive.survey import BOARD, OFFICIAL, SUBMISSIONS
from mergearena.leaderboard.board import place
from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.leaderboard import Leaderboard

PLAYED = Path("runs") / "submit"
"""One folder for all, so that references are played once."""
_MARKS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "skipped": "[dim]–[/]"}


def check(target: str, console: Console) -> bool:
    """Print every gate as it is reached; whether none failed.

    Args:
        target: ``FILE`` or ``FILE:NAME``.
        console: where to print.
    """
    path, name = split(target)
    began, failed = time.monotonic(), 0
    with console.status("starting") as status:
        for gate in gates.check(path, name):
            detail = f"  [dim]{escape(gate.detail)}[/]" if gate.status != "failed" else ""
            console.print(f" {_MARKS[gate.status]} {escape(gate.name)}{detail}", highlight=False)
            if gate.status == "failed":
                failed += 1
                console.print(f"     {escape(gate.detail)}", highlight=False, style="red")
                if gate.remedy:
                    console.print(f"     [bold]remedy:[/] {escape(gate.remedy)}", highlight=False)
            status.update("playing on toys")
    wrong = "[red]1 gate failed[/]" if failed == 1 else f"[red]{failed} gates failed[/]"
    verdict = wrong if failed else "[green]every gate passed[/]"
    console.print(f"\n{verdict} in {time.monotonic() - began:.0f} s", highlight=False)
    return not failed


def split(target: str) -> tuple[Path, str | None]:
    """``FILE:NAME`` in two; a name has no dot-py in it, a drive no name."""
    path, colon, name = target.rpartition(":")
    return (Path(path), name) if colon and path.endswith(".py") else (Path(target), None)


def new(kind: str, name: str, as_class: bool, folder: Path, console: Console) -> None:
    """Write a template and say what to do next."""
    path = template.write(kind, name, as_class, folder)
    console.print(f"wrote {path.name}. It works as it is; next:", highlight=False)
    console.print(f"  mergearena submit check {path.name}   [dim]# the gates, in under a minute[/]", highlight=False)
    console.print(
        f"  mergearena submit score {path.name}   [dim]# plays it, shows its rank, writes the submission[/]",
        highlight=False,
    )


def score(options: ScoreOptions, console: Console) -> int:
    """Play, show the row and its place, and write the submission; 1 if a play of the player's own failed, else 0.

    Raises:
        ArenaError: the file cannot be imported or registers no such player, there is a submission of that name, or
            a file that is not the player's changed.
    """
    path, name = split(options.target)
    seal = Seal()
    player = _inspected(path, name)
    stand_in(player)
    entry = entry_of(player, options.pipeline)
    parent = options.out or (BOARD / SUBMISSIONS if BOARD.is_dir() else Path(SUBMISSIONS))
    if (parent / player.name).exists():
        raise ArenaError(f"{parent / player.name} exists; delete it to score {player.name} again, or choose --out")
    key = PLAYED / f"{player.name}.key"
    summary = _play(entry, path, _key(key), options, console)
    seal.check()
    key.unlink()
    _show(entry, build(summary.records), options, console)
    failed = [record for record in summary.failures if player.source in record.provenance.code.values()]
    for record in failed[:3]:
        console.print(f"[red]{record.status}[/] {escape(record.title)}: {escape(record.reason or '')}", highlight=False)
    if failed:
        console.print("nothing was submitted: `mergearena submit check` may tell more")
        return 1
    written = _write(entry, path, parent, tuple(options.author or ()), summary.records)
    console.print(f"submission: {written}   to add it to the board: commit this folder", highlight=False)
    return 0


def _play(entry: Entry[Any], path: Path, key: str, options: ScoreOptions, console: Console) -> Summary:
    """Play what it is scored on."""
    with zoo.progress(console) as progress:
        suites.get(options.suite).prepare(progress)
        plays = entry.plan(options.suite, options.preset, key)
    adopt({play.id for play in plays}, BOARD / OFFICIAL, PLAYED / "records")  # the references, above all
    with shown(board_of(entry.track), plays, console) as (listener, watcher):
        return run(
            plays,
            PLAYED / "records",
            jobs=options.jobs,
            limits=options.limits,
            roster=Roster((path,), (entry.player,)),
            listener=listener,
            watcher=watcher,
        )


def _show(entry: Entry[Any], board: Leaderboard, options: ScoreOptions, console: Console) -> None:
    """Print what of a board concerns it, and its place."""
    for part in place.shown(entry, board):
        console.print(part)
    official = place.committed(options.suite, BOARD / "leaderboard.json")
    console.print(place.place(entry, board, official), highlight=False, soft_wrap=True)
    if options.preset == "quick":
        console.print(
            "quick has few matches; --preset standard plays all of the official board, to be ranked there", style="dim"
        )


def _key(path: Path) -> str:
    """A run key that nobody has seen, or, so that it goes on, that of a score that was interrupted."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, secrets.token_hex(16))
    return path.read_text(encoding="utf-8")


def _inspected(path: Path, name: str | None) -> Declaration:
    """The one player asked for; the file is imported in a process of its own."""
    if not path.is_file():
        raise ArenaError(f"{path}: no such file; `mergearena submit new defense NAME` writes one to start from")
    players, reason = gates.inspect(path)
    if players is None:
        raise ArenaError(reason)
    chosen = [player for player in players if name in (None, player.name)]
    if len(chosen) != 1:
        names = ", ".join(player.name for player in players) or "none"
        raise ArenaError(f"{path}: name one player, as in {path.name}:NAME; it registers: {names}")
    return chosen[0]


def _write(entry: Entry[Any], path: Path, parent: Path, authors: tuple[str, ...], records: list[Record]) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    return write_submission(
        parent,
        kind=entry.side,
        name=entry.player.name,
        authors=authors or (getpass.getuser(),),
        paper=entry.player.paper,
        players=(entry.spelling,),
        config={option.name: option.default for option in entry.player.options},
        records=records,
        code=path,
    )
