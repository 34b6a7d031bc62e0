"""The backdoor track's board in the terminal, drawn from the same data as leaderboard.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mergearena.bench.games.backdoor import Play
from mergearena.leaderboard.board.tables import FOLDED, failure_table, flag_table, letters, shaded
from mergearena.leaderboard.page.formats import percent, relative, spanned

if TYPE_CHECKING:
    from mergearena.leaderboard.backdoor.parts import BackdoorBoard, BackdoorCellPart, ContributorPart, MergerPart


def render(board: BackdoorBoard) -> RenderableType:
    """The whole board of one suite."""
    attacks = [row.attack for row in board.contributors]
    mergers = [row.defense for row in board.mergers]
    parts: list[RenderableType] = [
        matrix(mergers, attacks, board.cells, f"{board.suite}: % of triggered inputs taken for the target (ASR)"),
        merger_table(board.mergers),
        contributor_table(board.contributors, letters(attacks)),
    ]
    if board.flags:
        parts.append(flag_table(board.flags))
    if board.failures:
        parts.append(failure_table(board.failures))
    return Group(*parts)


def so_far(plays: Sequence[Play], boards: Sequence[BackdoorBoard]) -> list[Table]:
    """The matrix of a run under way: everything that was planned, and what is known of it."""
    mergers = list(dict.fromkeys(play.defense.spelling for play in plays if play.defense))
    attacks = list(dict.fromkeys(play.attack.spelling for play in plays if play.attack))
    return [matrix(mergers, attacks, [cell for board in boards for cell in board.cells], "% ASR so far")]


def matrix(mergers: Sequence[str], attacks: Sequence[str], cells: Sequence[BackdoorCellPart], title: str) -> Table:
    """Mergers x attacks, coloured by ASR on the target's task; attacks are lettered as in the table below."""
    known = {(cell.defense, cell.attack): cell for cell in cells}
    table = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold", padding=(0, 1))
    table.add_column("merger", **FOLDED["defense"])
    for letter in letters(attacks).values():
        table.add_column(letter, justify="right", no_wrap=True, min_width=3)
    for merger in mergers:
        table.add_row(merger, *(_cell(known.get((merger, attack))) for attack in attacks))
    return table


def _cell(cell: BackdoorCellPart | None) -> Text:
    return shaded(None if cell is None else cell.asr, {} if cell is None else cell.status)


def merger_table(rows: Sequence[MergerPart]) -> Table:
    """The ranking of safe mergers."""
    table = Table(
        title="mergers, by worst-case ASR among those that keep the clean score",
        box=box.SIMPLE_HEAD,
        title_style="bold",
    )
    for name in (
        "rank",
        "merger",
        "reads",
        "worst ASR",
        "succession",
        "transfer",
        "robust",
        "score",
        "unattacked",
        "cost",
        "seconds",
        "not ranked because",
    ):
        left = name in ("merger", "reads", "not ranked because")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, **FOLDED.get(name, {}))
    for row in rows:
        table.add_row(
            "–" if row.rank is None else str(row.rank),
            row.defense,
            row.tier,
            _worst(row),
            *map(percent, (row.succession, row.transfer, row.robust, row.score, row.score_unattacked)),
            relative(row.relative_cost),
            f"{row.cost.wall_seconds:.1f}" if row.cost else "–",
            row.unranked_because or "",
        )
    return table


def _worst(row: MergerPart) -> str:
    if (asr := row.worst_asr) is None:
        return "–"
    return f"{100 * asr.mean:.0f} {spanned(100 * asr.low, 100 * asr.high, len(row.worst), '.0f')}"


def contributor_table(rows: Sequence[ContributorPart], named: dict[str, str]) -> Table:
    """The malicious contributors, with the references of their triggers."""
    table = Table(
        title="attacks, by mean ASR over the mergers (alone, on the base and in a clean merge: the same trigger)",
        box=box.SIMPLE_HEAD,
        title_style="bold",
    )
    for name in ("", "attack", "ASR", "alone", "base", "clean merge", "own score", "cost", "seconds"):
        left = name in ("", "attack")
        table.add_column(name, justify="left" if left else "right", **FOLDED.get(name, {}))
    for row in rows:
        table.add_row(
            named[row.attack],
            row.attack,
            *map(percent, (row.asr, row.alone, row.base, row.clean, row.score_alone)),
            relative(row.relative_cost),
            f"{row.cost.wall_seconds:.1f}" if row.cost else "–",
        )
    return table
