"""``mergearena submit``: what a submitter sees."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.submit import gates, template

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
    verdict = f"[red]{failed} gates failed[/]" if failed else "[green]every gate passed[/]"
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
