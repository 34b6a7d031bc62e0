"""Accuracies -> recovered, resistance, worst case, intervals: pure functions of records.

Everything here reads test accuracies, but *chooses* by validation accuracy: a maximum over many attacks must not be
a maximum over noise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bench.game import Tier

if TYPE_CHECKING:
    from bench.games.protection import Record
    from bench.records import Accuracy

MINIMUM_GAP = 0.05
"""Points of victim accuracy between floor and ceiling under which there is nothing to steal."""
QUALIFYING = 0.95
"""Share of the donors' ceiling that an attack must keep."""
MINIMUM_FIDELITY = 0.98
"""Fidelity under which a defense is shown but not ranked."""

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True)
class Points:
    """The reference points of one match, on test."""

    floor: float
    """Victim-task accuracy of the best model an attacker of this tier has without the victim."""
    ceiling: float
    """Victim-task accuracy of the best unprotected merge."""
    donor_ceiling: float
    """Mean donor-task accuracy of that merge."""

    def qualifies(self, victim: str, accuracy: Mapping[str, float]) -> bool:
        """Whether a merged model keeps the donors' skill."""
        return _donor_mean(victim, accuracy) >= QUALIFYING * self.donor_ceiling

    def recovered(self, victim: str, accuracy: Mapping[str, float]) -> float:
        """clip((acc(theta_m, v) - F_v) / (C_v - F_v), 0, 1) if the attack qualifies, else 0."""
        gap = self.ceiling - self.floor
        if gap <= 0 or not self.qualifies(victim, accuracy):
            return 0.0
        return min(1.0, max(0.0, (accuracy[victim] - self.floor) / gap))


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


def _donor_mean(victim: str, accuracy: Mapping[str, float]) -> float:
    return fmean(value for task, value in accuracy.items() if task != victim)


def merged_accuracy(accuracy: dict[str, float]) -> float:
    """Mean accuracy over the tasks of a match."""
    return fmean(accuracy.values())


def reference(records: Iterable[Record], tier: Tier) -> Reference | None:
    """The reference points of one match and seed, from its first round of records with no defense.

    The floor is the best baseline on the victim's task, the ceiling the best unprotected merge over the match's
    tasks; both are chosen on validation. None if either has no finished record. Later rounds do not move them:
    a ceiling that rose with new attacks would make every old attack look weaker.
    """
    played = [
        (r, r.accuracy)
        for r in records
        if r.defense == "none" and r.round == 0 and r.tier and tier.allows(r.tier) and r.accuracy
    ]
    baselines = [(r, a) for r, a in played if not r.uses_victim]
    merges = [(r, a) for r, a in played if r.uses_victim]
    if not baselines or not merges:
        return None
    victim = merges[0][0].victim
    low, floor = _best(baselines, lambda r, a: a.validation[r.victim])
    high, ceiling = _best(merges, lambda r, a: merged_accuracy(a.validation))

    points = Points(floor.test[victim], ceiling.test[victim], _donor_mean(victim, ceiling.test))
    return Reference(points, low.attack or "", high.attack or "")


def _best(
    played: Sequence[tuple[Record, Accuracy]], value: Callable[[Record, Accuracy], float]
) -> tuple[Record, Accuracy]:
    """The record of the largest value. Equal values go to the better mean on validation, then to the first spelling, so
    that order never matters.
    """

    def key(pair: tuple[Record, Accuracy]) -> tuple[object, ...]:
        record, accuracy = pair
        return -value(record, accuracy), -merged_accuracy(accuracy.validation), record.attack or "", record.id

    return min(played, key=key)


@dataclass(frozen=True)
class Strongest:
    """The strongest attack on one match and seed."""

    recovered: float
    attack: str | None
    """None where no attack qualified."""


def worst_case(records: Iterable[Record], reference: Reference) -> Strongest:
    """What the qualifying attack of the largest victim accuracy on validation recovers on test.

    Each later round of evidence is read together with the first, and the largest reading stands: whenever it comes,
    evidence can only raise what an attacker recovers.
    """
    points = reference.points
    qualifying = [
        (r, r.accuracy) for r in records if r.accuracy and r.uses_victim and points.qualifies(r.victim, r.accuracy.test)
    ]
    rounds = group(qualifying, lambda pair: pair[0].round)
    first = rounds.pop(0, [])
    worst = Strongest(0.0, None)
    for here in (first, *(first + rounds[number] for number in sorted(rounds))):
        if not here:
            continue
        chosen, accuracy = _best(here, lambda r, a: a.validation[r.victim])
        recovered = points.recovered(chosen.victim, accuracy.test)
        if worst.attack is None or recovered > worst.recovered:
            worst = Strongest(recovered, chosen.attack)
    return worst


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether two intervals share a point: a tie."""
        return self.low <= other.high and other.low <= self.high


def bootstrap(by_match: Sequence[Sequence[float]], resamples: int = 2000) -> Interval:
    """Mean over matches of the mean over seeds; matches and, within them, seeds are drawn with replacement.

    Deterministic: the generator's seed is fixed.
    """
    rng = np.random.default_rng(0)
    picked = rng.integers(len(by_match), size=(resamples, len(by_match)))
    means = np.stack(
        [rng.choice(np.asarray(values), size=(resamples, len(values))).mean(1) for values in by_match], axis=1
    )
    samples = np.take_along_axis(means, picked, axis=1).mean(1)
    low, high = np.quantile(samples, [0.025, 0.975])
    mean = fmean(fmean(values) for values in by_match)
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def group(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by key, in order of first appearance."""
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
