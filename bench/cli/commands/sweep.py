"""``mergearena study sweep``: from options with a place for a value to plays, a table and a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from mergearena.bench import suites
from mergearena.bench.cli.commands import tracks, zoo
from mergearena.bench.cli.commands.run import limits_of
from mergearena.bench.errors import ArenaError
from mergearena.bench.games.backdoor.presets import preset
from mergearena.bench.games.grid import Options as GridOptions
from mergearena.bench.games.protection import presets
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.records.record import Record
from mergearena.bench.runner.run import run as play_all
from mergearena.bench.study.sweep import METRICS, PLACE, Names, References, Row, filled, rows_of
from mergearena.bench.study.sweep_report import PAGE, TABLE, Curves, curves_of, write
from mergearena.leaderboard.page.formats import percent


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``mergearena study sweep`` asks for; ``{}`` in a text stands for the value."""

    values: tuple[str, ...]
    track: str
    suite: str
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    matches: tuple[str, ...]
    malicious: str
    examples: str
    tier: str
    seeds: tuple[int, ...]
    jobs: int
    records: Path
    out: Path
    timeout: float
    memory: float
    key: str
    plugins: tuple[Path, ...]

    @property
    def texts(self) -> Iterator[str]:
        """Those in which a value may stand."""
        yield from (*self.defenses, *self.attacks, *self.matches, self.malicious, self.examples)

    def at(self, value: str) -> GridOptions:
        """The options of an ordinary run at one value.

        Raises:
            ArenaError: a number is none.
        """
        return GridOptions(
            track=self.track,
            suite=self.suite,
            preset="quick",
            defenses=tuple(filled(text, value) for text in self.defenses),
            attacks=tuple(filled(text, value) for text in self.attacks),
            matches=tuple(filled(text, value) for text in self.matches),
            malicious=_count("--malicious", filled(self.malicious, value)),
            tier=self.tier,
            seeds=self.seeds,
            jobs=self.jobs,
            records=self.records,
            out=self.out,
            fresh=False,
            keep=False,
            timeout=self.timeout,
            memory=self.memory,
            examples=_count("--examples", filled(self.examples, value)),
            key=self.key,
            plugins=self.plugins,
        )


def run(options: Options, console: Console) -> int:
    """Play, print and write; 1 if any play failed, else 0.

    Raises:
        ArenaError: there is no place for the value, or an option does not fit with it.
    """
    if not any(PLACE in text for text in options.texts):
        raise ArenaError("nothing varies: put {} where the values go, as in --attack 'ties(density={})'")
    for path in options.plugins:
        load_plugin(path)
    with zoo.progress(console) as progress:
        suites.get(options.suite).prepare(progress)
        planned = {value: tracks.TRACKS[options.track].plan(options.at(value)) for value in options.values}
    plays = {play.id: play for here in planned.values() for play in here}
    limits = limits_of(options.timeout, options.memory, options.jobs, options.plugins)
    with zoo.progress(console) as progress:
        task = progress.add_task("playing", total=len(plays))
        summary = play_all(
            list(plays.values()),
            options.records,
            jobs=options.jobs,
            limits=limits,
            listener=lambda record, reused: progress.advance(task),
        )
    played: dict[str, Record] = {record.id: record for record in summary.records}
    references = References(summary.records)
    rows: list[Row] = []
    for value, here in planned.items():
        at_value = [played[play.id] for play in here if play.id in played]
        rows += rows_of(value, at_value, _names(options, value), references)
    curves = curves_of(rows, METRICS[options.track])
    write(rows, curves, options.values, _command(options), options.out)
    for one in curves:
        console.print(_table(one, options.values))
    console.print(f"page: {options.out / PAGE}   rows: {options.out / TABLE}   records: {options.records}")
    for record in summary.failures:
        console.print(f"[yellow]no result:[/] {record.title}: {record.reason}", highlight=False)
    return 1 if summary.failures else 0


def _names(options: Options, value: str) -> Names:
    """What is not given is the quick preset's, as in an ordinary run."""
    tasks = tuple(suites.get(options.suite).tasks)
    if options.track == "backdoor":
        mirrored = preset("quick", options.suite, tasks)
        defenses, attacks = mirrored.mergers, mirrored.attacks
    else:
        grid = presets.preset("quick", options.suite, tasks)
        defenses, attacks = grid.defenses, grid.attacks
    return Names.of(options.track, value, options.defenses or defenses, options.attacks or attacks)


def _table(curves: Curves, values: Sequence[str]) -> Table:
    table = Table(title=f"{curves.title}, % on test", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("defense", "attack"):
        table.add_column(name, overflow="fold")
    for value in values:
        table.add_column(value, justify="right", no_wrap=True)
    for (defense, attack), line in curves.lines.items():
        table.add_row(defense, attack, *(percent(line[value].mean if value in line else None) for value in values))
    return table


def _command(options: Options) -> str:
    """The command, as far as it says what varies and against whom."""
    named = [("defense", options.defenses), ("attack", options.attacks), ("match", options.matches)]
    given = "".join(f' --{name} "{text}"' for name, texts in named for text in texts)
    extra = f" --examples {options.examples}" if PLACE in options.examples else ""
    extra += f" --malicious {options.malicious}" if PLACE in options.malicious else ""
    values = ",".join(options.values)
    return f"mergearena study sweep --track {options.track} --suite {options.suite} --values {values}{given}{extra}"


def _count(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArenaError(f"{option} takes whole numbers from 1, not {text!r}")
    return int(text)
