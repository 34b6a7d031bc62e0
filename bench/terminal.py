"""The board in the terminal, drawn from the same data as leaderboard.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from bench.game import Tier

if TYPE_CHECKING:
    from bench.games.protection import Play
    from leaderboard.board import AttackPart, CellPart, DefensePart, FailurePart, FlagPart, SuiteBoard

# Recovered skill from none (the defense holds) to all (it is broken): backgrounds with their readable foregrounds.
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
_CELL, _PADDING = 3, 3
"""Characters of a matrix's cell, and between two."""


@dataclass(frozen=True)
class Matrix:
    """Defenses x attacks, coloured by ``recovered``; attacks are lettered as in :func:`attack_table`.

    As many attacks stand side by side as the terminal has room for; the others follow below.
    """

    defenses: Sequence[str]
    attacks: Sequence[str]
    cells: Mapping[tuple[str, str], CellPart]
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The tables."""
        named = list(letters(self.attacks).items())
        beside = max(1, (options.max_width - FOLDED["defense"]["min_width"] - _PADDING) // (_CELL + _PADDING))
        for start in range(0, len(named), beside):
            yield self._table(dict(named[start : start + beside]), self.title if start == 0 else None)

    def _table(self, named: Mapping[str, str], title: str | None) -> Table:
        table = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold", padding=(0, 1))
        table.add_column("defense", **FOLDED["defense"])
        for letter in named.values():
            table.add_column(letter, justify="right", no_wrap=True, min_width=_CELL)
        for defense in self.defenses:
            table.add_row(defense, *(_cell(self.cells.get((defense, attack))) for attack in named))
        return table


def so_far(plays: Sequence[Play], boards: Sequence[SuiteBoard]) -> list[Matrix]:
    """The matrix of a run under way: everything that was planned, and what is known of it."""
    defenses = list(dict.fromkeys(play.defense for play in plays))
    attacks = list(dict.fromkeys(play.attack for play in plays if play.attack and play.pipeline.uses_victim))
    cells = {(c.defense, c.attack): c for board in boards for c in board.cells}
    return [Matrix(defenses, attacks, cells, "% recovered so far")]


def letters(attacks: Sequence[str]) -> dict[str, str]:
    """Attack -> the letters that stand for it in the matrix."""
    one = ascii_letters
    return {a: one[i] if i < len(one) else one[i // len(one) - 1] + one[i % len(one)] for i, a in enumerate(attacks)}


def _cell(cell: CellPart | None) -> Text:
    return Text("·", style="dim") if cell is None else shaded(cell.recovered, cell.status)


def shaded(share: float | None, status: Mapping[str, int]) -> Text:
    """A share as a percentage on its colour; without one, the sign of what became of the plays."""
    if share is None:
        worst = next((name for name in status if name != "ok"), None)
        return Text(_STATUS.get(worst or "", "–" if status else "·"), style="bold red" if worst else "dim")
    style = next(style for limit, style in _SHADES if share < limit)
    return Text(f"{100 * share:3.0f}", style=style)


def render(board: SuiteBoard) -> RenderableType:
    """The whole board of one suite."""
    table = matrix(board)
    parts: list[RenderableType] = [
        table,
        defense_table(board.defenses, board.ties),
        attack_table(board.attacks, letters(table.attacks)),
        match_table(board),
    ]
    if board.flags:
        parts.append(flag_table(board.flags))
    if board.failures:
        parts.append(failure_table(board.failures))
    return Group(*parts)


def matrix(board: SuiteBoard) -> Matrix:
    """Every defense and every attack of the board, baselines apart."""
    return Matrix(
        [row.defense for row in board.defenses],
        [row.attack for row in board.attacks if row.uses_victim],
        {(cell.defense, cell.attack): cell for cell in board.cells},
        f"{board.suite}: % of the victim's skill that each attack recovers (0 = the defense holds)",
    )


def defense_table(rows: Sequence[DefensePart], ties: frozenset[str]) -> Table:
    """The ranking of defenses; ``ties``: those that share their place."""
    table = Table(
        title="defenses, by resistance (95 % interval in the tier that ranks; in brackets: without extraction)",
        box=box.SIMPLE_HEAD,
        title_style="bold",
    )
    for name in ("rank", "defense", *Tier, "protected", "fidelity", "logits", "cost", "flags"):
        left = name in ("defense", "flags")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, **FOLDED.get(name, {}))
    for row in rows:
        resistances = [_resistance(row, tier) for tier in Tier]
        table.add_row(
            "–" if row.rank is None else f"{row.rank}{' tie' if row.defense in ties else ''}",
            row.defense,
            *resistances,
            percent(row.protected_accuracy),
            "–" if row.fidelity is None else f"{row.fidelity:.3f}",
            "–" if row.logit_difference is None else f"{row.logit_difference:.0e}",
            relative(row.relative_protect_cost),
            ", ".join(filter(None, (row.unranked_because, *row.flags))),
        )
    return table


def attack_table(rows: Sequence[AttackPart], named: Mapping[str, str]) -> Table:
    """The ranking of attacks with what they cost; baselines last, and before them those that met but some defenses."""
    most = max((row.defenses_met for row in rows), default=0)
    table = Table(
        title="attacks, by mean recovered over the defenses (cost: share of fine-tuning the victim from the base)",
        box=box.SIMPLE_HEAD,
        title_style="bold",
    )
    for name in ("", "attack", "tier", "recovered", "strongest in", "merged", "cost", "seconds", "flags"):
        left = name in ("", "attack", "tier", "flags")
        folded = FOLDED.get(name, {})
        table.add_column(name, justify="left" if left else "right", no_wrap=not folded, **folded)
    for row in rows:
        table.add_row(
            named.get(row.attack, ""),
            row.attack,
            row.tier,
            percent(row.recovered) if row.uses_victim else "baseline",
            percent(row.strongest_share),
            percent(row.merged_accuracy),
            relative(row.relative_cost),
            f"{row.cost.wall_seconds:.2f}" if row.cost else "–",
            ", ".join(
                (
                    *((f"met {row.defenses_met} of {most} defenses",) if 0 < row.defenses_met < most else ()),
                    *row.flags,
                    *((f"{row.failures} failed",) if row.failures else ()),
                )
            ),
        )
    return table


def match_table(board: SuiteBoard) -> Table:
    """The reference points of every match."""
    table = Table(title="matches: floor → ceiling of the victim's accuracy", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("match", "seed", "fine-tuned", *Tier):
        table.add_column(name, justify="left" if name == "match" else "right")
    for m in board.matches:
        spans = [
            f"{100 * t.floor:.1f} → {100 * t.ceiling:.1f}{'' if t.is_match else ' (not a match)'}"
            if (t := m.tiers.get(tier))
            else "–"
            for tier in Tier
        ]
        table.add_row(m.match, str(m.seed), percent(m.finetuned), *spans)
    return table


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


def _resistance(row: DefensePart, tier: Tier) -> str:
    part, weights = row.resistance.get(tier), row.without_extraction(tier)
    if part is None:
        return "–"
    spread = f" {spanned(part.low, part.high, part.matches, '.2f')}" if tier is Tier.DATA_FREE else ""
    return f"{part.mean:.2f}{spread}{'' if weights is None else f' ({weights:.2f})'}"


def spanned(low: float, high: float, matches: int, form: str) -> str:
    """An interval as it is printed. One match and seed tell nothing about others: their interval is not known."""
    return f"[{low:{form}}, {high:{form}}]" if matches > 1 else "(one match)"


def percent(value: float | None) -> str:
    """A share in percent, one decimal."""
    return "–" if value is None else f"{100 * value:.1f}"


def relative(value: float | None) -> str:
    """A cost in percent of another, two digits; as a multiple where it is larger, as a bound where next to nothing."""
    if value is None:
        return "–"
    if 0 < value < 1e-6:
        return "< 0.0001 %"
    return f"{100 * value:.2g} %" if value < 0.995 else f"{value:.1f} ×"
