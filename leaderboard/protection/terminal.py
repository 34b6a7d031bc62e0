"""The board in the terminal, drawn from the same data as leaderboard.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.board.tables import FOLDED, failure_table, flag_table, letters
from mergearena.leaderboard.page.formats import percent, relative, spanned
from mergearena.leaderboard.protection.matrix import Matrix

if TYPE_CHECKING:
    from mergearena.bench.games.protection import Play
    from mergearena.leaderboard.protection.parts import AttackPart, DefensePart, SuiteBoard


def so_far(plays: Sequence[Play], boards: Sequence[SuiteBoard]) -> list[Matrix]:
    """The matrix of a run under way: everything that was planned, and what is known of it."""
    defenses = list(dict.fromkeys(play.defense.spelling for play in plays))
    against = (play.attack for play in plays if play.attack and play.attack.uses_victim)
    attacks = list(dict.fromkeys(attack.spelling for attack in against))
    cells = {(c.defense, c.attack): c for board in boards for c in board.cells}
    return [Matrix(defenses, attacks, cells, "% recovered so far")]


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


def concerning(defense: str | None, board: SuiteBoard) -> Iterator[RenderableType]:
    """The matrix and the rankings, without references and without flags; with a defense, of the defenses its row."""
    table = matrix(board)
    yield table
    yield attack_table([row for row in board.attacks if row.uses_victim], letters(table.attacks))
    yield defense_table([row for row in board.defenses if defense in (None, row.defense)], board.ties)


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
            percent(row.protected_score),
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
            percent(row.merged_score),
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
    table = Table(title="matches: floor → ceiling of the victim's score", box=box.SIMPLE_HEAD, title_style="bold")
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


def _resistance(row: DefensePart, tier: Tier) -> str:
    part, weights = row.resistance.get(tier), row.without_extraction(tier)
    if part is None:
        return "–"
    spread = f" {spanned(part.low, part.high, part.matches, '.2f')}" if tier is Tier.DATA_FREE else ""
    return f"{part.mean:.2f}{spread}{'' if weights is None else f' ({weights:.2f})'}"
