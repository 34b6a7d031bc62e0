"""``mergearena doctor``: the state of the machine, and a table of planted faults."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from textwrap import shorten

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mergearena.bench.doctor.examination import examine
from mergearena.bench.doctor.finding import Finding
from mergearena.bench.doctor.machine import Line, state

_STYLES = {"passed": "", "weaker": "yellow", "failed": "red"}


def doctor(console: Console) -> bool:
    """Print what was found; whether the shipped files are whole and every fault was caught."""
    lines = list(state())
    console.print(_machine(lines))
    began, found = time.monotonic(), []
    with console.status("planting faults") as status:
        for finding in examine():
            found.append(finding)
            status.update(f"planting faults: {finding.fault}")
    console.print(_table(found))
    caught = sum(finding.caught for finding in found)
    style = "green" if caught == len(found) else "red"
    console.print(
        f"[{style}]{caught} of {len(found)} planted faults caught[/] in {time.monotonic() - began:.0f} s",
        highlight=False,
    )
    return caught == len(found) and all(line.status != "failed" for line in lines)


def _machine(lines: Iterable[Line]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for line in lines:
        grid.add_row(f"[dim]{escape(line.what)}[/]", escape(line.found), style=_STYLES[line.status])
    return grid


def _table(found: Iterable[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("planted")
    table.add_column("caught by")
    table.add_column("which said", ratio=1)
    table.add_column("sound one")
    for finding in found:
        mark = "[green]✓[/]" if finding.caught else "[red]✗[/]"
        said = "[red]nothing[/]" if finding.said is None else escape(_short(finding.said))
        sound = "passes" if finding.alarm is None else f"[red]{escape(finding.alarm)}[/]"
        table.add_row(mark, escape(finding.fault), escape(finding.safeguard), said, sound)
    return table


def _short(said: str) -> str:
    """What is wrong, without what to do about it."""
    return shorten(re.split(r"; |\. ", said)[0], 100, placeholder=" …")
