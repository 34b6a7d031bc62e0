"""``mergearena run``: from options to records, board and exit code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mergearena.bench import suites
from mergearena.bench.cli.asked.run import RunOptions
from mergearena.bench.cli.commands import zoo
from mergearena.bench.cli.commands.board import write
from mergearena.bench.errors import ArenaError
from mergearena.bench.games.base import Job, Play
from mergearena.bench.games.game import games
from mergearena.bench.players.registry import registry
from mergearena.bench.records.record import Record
from mergearena.bench.runner.executors.executor import Watcher
from mergearena.bench.runner.run import Listener
from mergearena.bench.runner.run import run as play_all
from mergearena.leaderboard.archive.survey import BOARD
from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.board.games import GameBoard, board_of


def run(options: RunOptions, console: Console) -> int:
    """Play, print and write the board; 1 if any play failed, else 0.

    Raises:
        ArenaError: the options do not fit, or would write to the committed board.
    """
    for path in (options.record_folder, options.board_file):
        if path.resolve().is_relative_to(BOARD.resolve()):
            raise ArenaError(f"{path}: only `mergearena leaderboard publish` writes to {BOARD}; choose another folder")
    roster = options.load()
    for name, reason in registry.broken().items():
        console.print(f"[yellow]warning:[/] the players of {name} could not be imported: {reason}")
    for name, reason in games.broken().items():
        console.print(f"[yellow]warning:[/] the game of {name} could not be imported: {reason}")
    game = games.find(options.track)
    with zoo.progress(console) as progress:
        suites.get(options.suite).prepare(progress)
        plays = game.plan(options.grid)
    with shown(board_of(game.name), plays, console) as (listener, watcher):
        summary = play_all(
            plays,
            options.record_folder,
            jobs=options.jobs,
            limits=options.limits,
            roster=roster,
            fresh=options.fresh,
            keep=options.keep,
            listener=listener,
            watcher=watcher,
        )
    board = build(summary.records)
    write(board, options.board_file, console)
    for path in summary.set_aside:
        console.print(f"[yellow]warning:[/] a damaged record was set aside as {path} and replayed")
    settled = f", {summary.settled} steps of auto not needed" if summary.settled else ""
    console.print(
        f"{summary.played} plays played, {summary.reused} reused{settled}; records in {options.record_folder}"
    )
    return 1 if summary.failures else 0


@contextmanager
def shown(
    side: GameBoard[Any], plays: Sequence[Play], console: Console, every: float = 2.0, logged: float = 60.0
) -> Iterator[tuple[Listener, Watcher]]:
    """A live matrix that fills in as records arrive; below it a bar, and one for every player that tells its steps.

    Where there is no terminal, such as in a log, a line instead, at most every ``logged`` seconds.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
        console=console,
    )
    task = bar.add_task("playing", total=len(plays), doing="")
    bars = _step_bars(bar)
    done: list[Record] = []
    drawn = began = time.monotonic()

    def due() -> bool:
        """Whether it is time to show something; if so, the next time is counted from now."""
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < (every if console.is_terminal else logged):
            return False
        drawn = now
        return True

    def log(what: str) -> None:
        told = f"{(time.monotonic() - began) / 60:.0f} min: {len(done)} of {len(plays)} plays, {what}"
        console.print(told, markup=False, soft_wrap=True)

    with Live(bar, console=console, refresh_per_second=4, transient=True) as live:

        def listener(record: Record, reused: bool) -> None:
            done.append(record)
            bar.update(task, advance=1, doing="reused" if reused else record.title)
            if reused or not due():
                return
            if console.is_terminal:
                live.update(Group(*side.so_far(plays, build(done).of(side.part)), bar))
            else:
                log(record.title)

        def watcher(play: Job, steps: tuple[int, int] | None) -> None:
            bars(play, steps)
            # Releases that are made again for new attacks end unheard, and take minutes.
            if steps is not None and not console.is_terminal and due():
                log(f"{play.title}: step {steps[0]} of {steps[1]}")

        yield listener, watcher


def _step_bars(bar: Progress) -> Watcher:
    """A bar of its own for every play whose player tells how far it is, gone when the player ends."""
    shown: dict[str, TaskID] = {}

    def watcher(play: Job, steps: tuple[int, int] | None) -> None:
        if steps is None:
            if play.id in shown:
                bar.remove_task(shown.pop(play.id))
            return
        if play.id not in shown:
            shown[play.id] = bar.add_task("  steps", total=steps[1], doing=play.title)
        bar.update(shown[play.id], completed=steps[0], total=steps[1])

    return watcher
