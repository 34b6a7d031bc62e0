"""Where a scored player would stand among those of a board."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mergearena.bench.players.tier import Tier
from mergearena.bench.submit.plan import Entry
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.board.parts import IntervalPart
from mergearena.leaderboard.page.formats import spanned
from mergearena.leaderboard.protection.parts import DefensePart, WorstPart
from mergearena.leaderboard.protection.rows import resistances


def place(entry: Entry, mine: Leaderboard, others: Leaderboard | None) -> str:
    """One sentence: its score, and its place on ``others``, or, if that has nobody to compare with, among what was
    played along.
    """
    official = others is not None and _has_rivals(entry, others)
    board = others if others is not None and official else mine
    against = "on the committed board" if official else "among those played along"
    if entry.track == "backdoor":
        return _backdoor(entry, mine, board, against)
    if entry.attacks:
        scores = {row.attack: row.recovered for b in board.protection for row in b.attacks if row.uses_victim}
        own = {row.attack: row.recovered for b in mine.protection for row in b.attacks}[entry.spelled]
        return _sentence(entry, "recovers", own, scores, against, higher=True)
    return _defense(entry, mine, board, against)


def _defense(entry: Entry, mine: Leaderboard, board: Leaderboard, against: str) -> str:
    """Its place by resistance without data, over the matches that it was played on alone: others' matches may be
    easier.
    """
    (row,) = [row for b in mine.protection for row in b.defenses if row.defense == entry.spelled]
    if row.unranked_because:
        return f"{entry.spelled} is not ranked: {row.unranked_because}"
    matches = {case.match for case in _data_free(row)}

    def resistance(rival: DefensePart) -> IntervalPart | None:
        cases = [case for case in _data_free(rival) if case.match in matches]
        return resistances(cases)[Tier.DATA_FREE] if {case.match for case in cases} == matches else None

    own = row.resistance[Tier.DATA_FREE]
    ranked = [r for b in board.protection for r in b.defenses if r.rank is not None and r.defense != entry.spelled]
    rivals = {r.defense: interval for r in ranked if (interval := resistance(r)) is not None}
    ahead = sum(interval.mean > own.mean for interval in rivals.values())
    ties = [defense for defense, interval in rivals.items() if interval.overlaps(own)]
    tied = f", tied with {', '.join(ties[:3])}{' and others' if len(ties) > 3 else ''}" if ties else ""
    spread = spanned(own.low, own.high, own.matches, ".1%")
    where = f"{len(matches)} match{'es' * (len(matches) > 1)}"
    return (
        f"{entry.spelled} resists {own.mean:.1%} {spread} data-free: "
        f"place {ahead + 1} of {len(rivals) + 1} {against}, over the same {where}{tied}"
    )


def _data_free(row: DefensePart) -> list[WorstPart]:
    return [case for case in row.worst if case.tier == Tier.DATA_FREE]


def _backdoor(entry: Entry, mine: Leaderboard, board: Leaderboard, against: str) -> str:
    if entry.attacks:
        scores = {row.attack: row.asr for b in board.backdoor for row in b.contributors}
        own = {row.attack: row.asr for b in mine.backdoor for row in b.contributors}[entry.spelled]
        return _sentence(entry, "succeeds on", own, scores, against, higher=True)
    scores = {r.defense: r.worst_asr.mean for b in board.backdoor for r in b.mergers if r.worst_asr}
    mergers = {row.defense: row.worst_asr for b in mine.backdoor for row in b.mergers}
    worst = mergers[entry.spelled]
    return _sentence(entry, "lets through", worst.mean if worst else None, scores, against, higher=False)


def _sentence(
    entry: Entry, verb: str, own: float | None, scores: dict[str, float | None], against: str, *, higher: bool
) -> str:
    if own is None:
        return f"{entry.spelled} has no score: none of its plays finished on a match that counts"
    rivals = [score for name, score in scores.items() if name != entry.spelled and score is not None]
    ahead = sum((score > own) if higher else (score < own) for score in rivals)
    return f"{entry.spelled} {verb} {own:.1%}: place {ahead + 1} of {len(rivals) + 1} {against}"


def committed(suite: str, path: Path) -> Leaderboard | None:
    """The committed board's part on one suite, or None if there is no board that can be read."""
    if not path.is_file():
        return None
    try:
        board = Leaderboard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        return None
    return board.model_copy(update={"protection": _of(suite, board.protection), "backdoor": _of(suite, board.backdoor)})


def _has_rivals(entry: Entry, board: Leaderboard) -> bool:
    """Whether there are any on its side of its track."""
    if entry.track == "backdoor":
        return any(part.contributors if entry.attacks else part.mergers for part in board.backdoor)
    return any(part.attacks if entry.attacks else part.defenses for part in board.protection)


def _of(suite: str, boards: Sequence[object]) -> tuple[object, ...]:
    return tuple(board for board in boards if getattr(board, "suite", None) == suite)
