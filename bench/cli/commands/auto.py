"""``mergearena auto``: check and choose the standard ensemble on the records of catalogue runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from mergearena.bench.errors import ArenaError
from mergearena.bench.games import archive
from mergearena.bench.games.protection import Record, auto, presets
from mergearena.bench.games.statistics import group


def check(folders: Sequence[Path], console: Console) -> bool:
    """Print where ``auto`` falls short of all recorded attacks, and what share of their time it takes.

    Returns:
        Whether it is within :data:`auto.TOLERANCE` of them everywhere.
    """
    table = Table(title="auto against every recorded attack, by suite", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("suite", "cases", "largest shortfall", "where", "by own ceilings", "plays", "seconds", "share"):
        table.add_column(name, justify="left" if name in ("suite", "where") else "right")
    within = True
    for suite, here in group(_read(folders), lambda r: r.suite).items():
        found = auto.compare(here, presets.NAIVE_AND_AUTO)
        if not found.shortfalls:
            raise ArenaError(f"{suite}: no finished attack on a match with something to steal; run a catalogue first")
        case, most = next(iter(found.shortfalls.items()))
        own = max(abs(value - found.own[case]) for case, value in found.catalogue.items())
        within = within and most <= auto.TOLERANCE
        table.add_row(
            suite,
            str(len(found.catalogue)),
            f"{100 * most:.1f} points",
            f"{case.match} {case.defense} {case.tier}" if most > 0 else "",
            f"{100 * own:.1f} points",
            "{1} of {0}".format(*found.plays),
            "{1:.0f} of {0:.0f}".format(*found.seconds),
            f"{100 * found.seconds[1] / found.seconds[0]:.0f} %",
        )
    console.print(table)
    return within


def choose(folders: Sequence[Path], console: Console) -> None:
    """Print the ensemble that these records suggest."""
    for attack in auto.choose(_read(folders)):
        console.print(attack, highlight=False)


def _read(folders: Iterable[Path]) -> list[Record]:
    found = [r for folder in folders for r in archive.read_all(folder) if isinstance(r, Record)]
    if not found:
        raise ArenaError("no records there; `mergearena run --preset catalogue` makes them")
    return found
