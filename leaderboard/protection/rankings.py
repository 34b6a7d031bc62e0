"""The rankings of defenses and of attacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType

from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.board.parts import IntervalPart
from mergearena.leaderboard.board.rankings import Ranking, ScoreRanking, Scores
from mergearena.leaderboard.page.formats import spanned
from mergearena.leaderboard.protection import terminal
from mergearena.leaderboard.protection.parts import DefensePart, SuiteBoard, WorstPart
from mergearena.leaderboard.protection.rows import resistances


class Attacks(ScoreRanking[SuiteBoard]):
    """By what they recover; baselines are nobody's rivals."""

    def scores(self, board: SuiteBoard) -> Scores:
        """Attack -> recovered."""
        return {row.attack: row.recovered for row in board.attacks}

    def rivals(self, board: SuiteBoard) -> Scores:
        """The same of those that use the victim."""
        return {row.attack: row.recovered for row in board.attacks if row.uses_victim}

    def shown(self, spelling: str, board: SuiteBoard) -> Iterable[RenderableType]:
        """The matrix and both rankings."""
        return terminal.concerning(None, board)


class Defenses(Ranking[SuiteBoard]):
    """By resistance without data, over the player's own matches alone: others' matches may be easier."""

    def has_rows(self, board: SuiteBoard) -> bool:
        """Whether there is a defense."""
        return bool(board.defenses)

    def sentence(self, spelling: str, mine: Sequence[SuiteBoard], among: Sequence[SuiteBoard], against: str) -> str:
        """Its resistance, how many resist more on its matches, and with whom it ties."""
        (row,) = [row for board in mine for row in board.defenses if row.defense == spelling]
        if row.unranked_because:
            return f"{spelling} is not ranked: {row.unranked_because}"
        matches = {case.match for case in _data_free(row)}
        own = row.resistance[Tier.DATA_FREE]
        ranked = [r for board in among for r in board.defenses if r.rank is not None and r.defense != spelling]
        rivals = {r.defense: interval for r in ranked if (interval := _resistance(r, matches)) is not None}
        ahead = sum(interval.mean > own.mean for interval in rivals.values())
        ties = [defense for defense, interval in rivals.items() if interval.overlaps(own)]
        tied = f", tied with {', '.join(ties[:3])}{' and others' if len(ties) > 3 else ''}" if ties else ""
        spread = spanned(own.low, own.high, own.matches, ".1%")
        where = f"{len(matches)} match{'es' * (len(matches) > 1)}"
        return (
            f"{spelling} resists {own.mean:.1%} {spread} data-free: "
            f"place {ahead + 1} of {len(rivals) + 1} {against}, over the same {where}{tied}"
        )

    def shown(self, spelling: str, board: SuiteBoard) -> Iterable[RenderableType]:
        """The matrix, the attacks, and its own row."""
        return terminal.concerning(spelling, board)


def _resistance(rival: DefensePart, matches: set[str]) -> IntervalPart | None:
    """A rival's over these matches, if it was played on all of them."""
    cases = [case for case in _data_free(rival) if case.match in matches]
    return resistances(cases)[Tier.DATA_FREE] if {case.match for case in cases} == matches else None


def _data_free(row: DefensePart) -> list[WorstPart]:
    return [case for case in row.worst if case.tier == Tier.DATA_FREE]
