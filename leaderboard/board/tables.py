"""The tables in the terminal that every game's board has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mergearena.leaderboard.board.parts import FailurePart, FlagPart


# What attacks reach, from nothing (the defense holds) to everything (it is broken): backgrounds with their readable
# foregrounds.
_SHADES = (
    (0.05, "black on #7bc87c"),
    (0.25, "black on #c5e8a3"),
    (0.50, "black on #fdf0a6"),
    (0.75, "black on #fdbf6f"),
    (0.95, "black on #f58a5b"),
    (1.01, "white on #c0302b"),
)


_STATUS = {"failed": "✗", "crashed": "✗", "timeout": "⏱", "memory": "mem"}


# Long spellings give way to numbers where the terminal is narrow.
FOLDED: dict[str, Any] = {
    "defense": {"overflow": "fold", "min_width": 20},
    "attack": {"overflow": "fold", "min_width": 20},
    "flags": {"overflow": "fold", "min_width": 10},
}


def letters(attacks: Sequence[str]) -> dict[str, str]:
    """Attack -> the letters that stand for it in the matrix."""
    one = ascii_letters
    return {a: one[i] if i < len(one) else one[i // len(one) - 1] + one[i % len(one)] for i, a in enumerate(attacks)}


def shaded(share: float | None, status: Mapping[str, int]) -> Text:
    """A share as a percentage on its colour; without one, the sign of what became of the plays."""
    if share is None:
        worst = next((name for name in status if name != "ok"), None)
        return Text(_STATUS.get(worst or "", "–" if status else "·"), style="bold red" if worst else "dim")
    style = next(style for limit, style in _SHADES if share < limit)
    return Text(f"{100 * share:3.0f}", style=style)


def flag_table(flags: Sequence[FlagPart], most: int = 12) -> Table:
    """The first flags, and how many more there are."""
    table = Table(title="flags", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("flag", "defense", "attack", "match", "why"):
        table.add_column(name)
    for flag in flags[:most]:
        table.add_row(f"[yellow]{flag.name}[/]", flag.defense or "", flag.attack or "", flag.match, flag.detail)
    if len(flags) > most:
        table.add_row(f"… {len(flags) - most} more in leaderboard.json", "", "", "", "")
    return table


def failure_table(failures: Sequence[FailurePart]) -> Table:
    """Every play without a result, with the reason."""
    table = Table(title=f"[red]{len(failures)} plays failed[/]", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("defense", "attack", "match", "seed", "status", "reason"):
        table.add_column(name)
    for f in failures:
        attack = f.attack or f"({f.kind})"
        table.add_row(f.defense or "", attack, f.match, str(f.seed), f.status, Text(f.reason))
    return table
