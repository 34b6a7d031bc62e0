"""``mergearena study sweep``: from options with a place for a value to plays, a table and a page."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from mergearena.bench import suites
from mergearena.bench.cli.asked.study import SweepOptions
from mergearena.bench.cli.commands import zoo
from mergearena.bench.errors import ArenaError
from mergearena.bench.games.game import games
from mergearena.bench.records.record import Record
from mergearena.bench.runner.run import run as play_all
from mergearena.bench.study.sweep import PLACE, Names, References, Row, game_of, rows_of
from mergearena.bench.study.sweep_report import PAGE, TABLE, Curves, curves_of, write
from mergearena.leaderboard.page.formats import percent


def run(options: SweepOptions, console: Console) -> int:
    """Play, print and write; 1 if any play failed, else 0.

    Raises:
        ArenaError: there is no place for the value, or an option does not fit with it.
    """
    if not any(PLACE in text for text in options.texts):
        raise ArenaError("nothing varies: put {} where the values go, as in --attack 'ties(density={})'")
    game, roster = game_of(options.track), options.load()
    with zoo.progress(console) as progress:
        suites.get(options.suite).prepare(progress)
        planned = {value: games.find(options.track).plan(options.at(value)) for value in options.swept}
    plays = {play.id: play for here in planned.values() for play in here}
    with zoo.progress(console) as progress:
        task = progress.add_task("playing", total=len(plays))
        summary = play_all(
            list(plays.values()),
            options.record_folder,
            jobs=options.jobs,
            limits=options.limits,
            roster=roster,
            listener=lambda record, reused: progress.advance(task),
        )
    played: dict[str, Record] = {record.id: record for record in summary.records}
    references = References(summary.records)
    rows: list[Row] = []
    for value, here in planned.items():
        at_value = [played[play.id] for play in here if play.id in played]
        rows += rows_of(value, at_value, _names(options, value), references)
    curves = curves_of(rows, game.metrics)
    write(rows, curves, options.swept, _command(options), options.folder)
    for one in curves:
        console.print(_table(one, options.swept))
    console.print(f"page: {options.folder / PAGE}   rows: {options.folder / TABLE}   records: {options.record_folder}")
    for record in summary.failures:
        console.print(f"[yellow]no result:[/] {record.title}: {record.reason}", highlight=False)
    return 1 if summary.failures else 0


def _names(options: SweepOptions, value: str) -> Names:
    """What is not given is the quick preset's, as in an ordinary run."""
    defenses, attacks = game_of(options.track).quick(options.suite)
    return Names.of(options.track, value, options.defense or defenses, options.attack or attacks)


def _table(curves: Curves, values: Sequence[str]) -> Table:
    table = Table(title=f"{curves.title}, % on test", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("defense", "attack"):
        table.add_column(name, overflow="fold")
    for value in values:
        table.add_column(value, justify="right", no_wrap=True)
    for (defense, attack), line in curves.lines.items():
        table.add_row(defense, attack, *(percent(line[value].mean if value in line else None) for value in values))
    return table


def _command(options: SweepOptions) -> str:
    """The command, as far as it says what varies and against whom."""
    named = [("defense", options.defense), ("attack", options.attack), ("match", options.match)]
    given = "".join(f' --{name} "{text}"' for name, texts in named for text in texts or ())
    extra = f" --examples {options.examples}" if PLACE in options.examples else ""
    extra += f" --malicious {options.malicious}" if PLACE in options.malicious else ""
    values = ",".join(options.swept)
    return f"mergearena study sweep --track {options.track} --suite {options.suite} --values {values}{given}{extra}"
