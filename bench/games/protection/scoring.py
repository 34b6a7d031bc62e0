"""Scores -> recovered, resistance, worst case, intervals: pure functions of records.

Everything here reads test scores, but *chooses* by validation score: a maximum over many attacks must not be
a maximum over noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from mergearena.bench.games.statistics import group
from mergearena.bench.players.tier import Tier

if TYPE_CHECKING:
    from mergearena.bench.games.protection import Record
    from mergearena.bench.records.record import Scores

MINIMUM_GAP = 0.05
"""Points of victim score between floor and ceiling under which there is nothing to steal."""
QUALIFYING = 0.95
"""Share of the donors' ceiling that an attack must keep."""
ENOUGH = 0.99
"""Share of a victim's skill after which a cascade attacks a match no further."""
MINIMUM_FIDELITY = 0.98
"""Fidelity under which a defense is shown but not ranked."""


@dataclass(frozen=True)
class Points:
    """The reference points of one match, on test."""

    floor: float
    """Victim-task score of the best model an attacker of this tier has without the victim."""
    ceiling: float
    """Victim-task score of the best unprotected merge."""
    donor_ceiling: float
    """Mean donor-task score of that merge."""

    def qualifies(self, victim: str, score: Mapping[str, float]) -> bool:
        """Whether a merged model keeps the donors' skill."""
        return _donor_mean(victim, score) >= QUALIFYING * self.donor_ceiling

    def recovered(self, victim: str, score: Mapping[str, float]) -> float:
        """clip((acc(theta_m, v) - F_v) / (C_v - F_v), 0, 1) if the attack qualifies, else 0."""
        gap = self.ceiling - self.floor
        if gap <= 0 or not self.qualifies(victim, score):
            return 0.0
        return min(1.0, max(0.0, (score[victim] - self.floor) / gap))


@dataclass(frozen=True)
class Reference:
    """The reference points of one match, seed and tier, and which attacks set them."""

    points: Points
    floor_by: str
    ceiling_by: str

    @property
    def is_match(self) -> bool:
        """Whether there is anything to steal."""
        return self.points.ceiling - self.points.floor >= MINIMUM_GAP


def _donor_mean(victim: str, score: Mapping[str, float]) -> float:
    return fmean(value for task, value in score.items() if task != victim)


def merged_score(score: dict[str, float]) -> float:
    """Mean score over the tasks of a match."""
    return fmean(score.values())


def reference(records: Iterable[Record], tier: Tier) -> Reference | None:
    """The reference points of one match and seed, from its first round of records with no defense.

    The floor is the best baseline on the victim's task, the ceiling the best unprotected merge over the match's
    tasks; both are chosen on validation. None if either has no finished record. Later rounds do not move them:
    a ceiling that rose with new attacks would make every old attack look weaker.
    """
    played = [
        (r, r.score)
        for r in records
        if r.defense == "none" and r.round == 0 and r.tier and tier.allows(r.tier) and r.score
    ]
    baselines = [(r, a) for r, a in played if not r.uses_victim]
    merges = [(r, a) for r, a in played if r.uses_victim]
    if not baselines or not merges:
        return None
    victim = merges[0][0].victim
    low, floor = _best(baselines, lambda r, a: a.validation[r.victim])
    high, ceiling = _best(merges, lambda r, a: merged_score(a.validation))

    points = Points(floor.test[victim], ceiling.test[victim], _donor_mean(victim, ceiling.test))
    return Reference(points, low.attack or "", high.attack or "")


def _best(played: Sequence[tuple[Record, Scores]], value: Callable[[Record, Scores], float]) -> tuple[Record, Scores]:
    """The record of the largest value. Equal values go to the better mean on validation, then to the first spelling, so
    that order never matters.
    """

    def key(pair: tuple[Record, Scores]) -> tuple[object, ...]:
        record, score = pair
        return -value(record, score), -merged_score(score.validation), record.attack or "", record.id

    return min(played, key=key)


@dataclass(frozen=True)
class Strongest:
    """The strongest attack on one match and seed."""

    recovered: float
    attack: str | None
    """None where no attack qualified."""


def worst_case(records: Iterable[Record], reference: Reference) -> Strongest:
    """What the qualifying attack of the largest victim score on validation recovers on test.

    Each later round of evidence is read together with the first, and the largest reading stands: whenever it comes,
    evidence can only raise what an attacker recovers.
    """
    points = reference.points
    qualifying = [
        (r, r.score) for r in records if r.score and r.uses_victim and points.qualifies(r.victim, r.score.test)
    ]
    rounds = group(qualifying, lambda pair: pair[0].round)
    first = rounds.pop(0, [])
    worst = Strongest(0.0, None)
    for here in (first, *(first + rounds[number] for number in sorted(rounds))):
        if not here:
            continue
        chosen, score = _best(here, lambda r, a: a.validation[r.victim])
        recovered = points.recovered(chosen.victim, score.test)
        if worst.attack is None or recovered > worst.recovered:
            worst = Strongest(recovered, chosen.attack)
    return worst


def settled(defense: str, tier: Tier, known: Iterable[Record]) -> bool:
    """Whether a cascade's attack of that tier on a defense is not needed: in every tier that it could count in, the
    match is no match or the strongest attack so far recovers :data:`ENOUGH`. ``known``: records of the match and seed.
    """
    known = [record for record in known if record.attack is not None]
    against = [record for record in known if record.defense == defense]
    for counted in Tier:
        if not counted.allows(tier):
            continue
        points = reference(known, counted)
        if points is None:
            return False
        allowed = (record for record in against if record.tier and counted.allows(record.tier))
        if points.is_match and worst_case(allowed, points).recovered < ENOUGH:
            return False
    return True
