"""Choosing and checking ``auto``, the standard ensemble, on the records of a run that played every pipeline.

``auto`` must reach, on every case, what the whole catalogue reaches, at the least cost. A case is one match and seed,
one defense and one tier. Everything here is a pure function of records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mergearena.bench.games.match import spell
from mergearena.bench.games.protection import Record, settled
from mergearena.bench.games.protection.scoring import Reference, reference, worst_case
from mergearena.bench.games.statistics import group
from mergearena.bench.players.tier import Tier

TOLERANCE = 0.01
"""Share of a victim's skill by which the ensemble may fall short of the catalogue."""


@dataclass(frozen=True)
class Case:
    """Where two sets of attacks are compared."""

    suite: str
    match: str
    seed: int
    defense: str
    tier: Tier


@dataclass(frozen=True)
class Comparison:
    """What an ensemble and the whole catalogue reach on the same records, and what they took."""

    catalogue: Mapping[Case, float]
    ensemble: Mapping[Case, float]
    own: Mapping[Case, float]
    """What the ensemble reaches by the reference points that it alone would set."""
    seconds: tuple[float, float]
    """Playing and evaluating, catalogue and ensemble, releases and baselines included in both."""
    plays: tuple[int, int]

    @cached_property
    def shortfalls(self) -> dict[Case, float]:
        """By how much the catalogue reaches farther, by case, the largest first."""
        lost = {case: value - self.ensemble[case] for case, value in self.catalogue.items()}
        return dict(sorted(lost.items(), key=lambda item: -item[1]))


def compare(records: Iterable[Record], ensemble: Sequence[str]) -> Comparison:
    """Play the ensemble's cascade on records that already exist, against all of them together."""
    catalogue: dict[Case, float] = {}
    reached: dict[Case, float] = {}
    own: dict[Case, float] = {}
    seconds, plays = [0.0, 0.0], [0, 0]
    everything = list(records)
    for here in _matches(everything):
        kept = cascaded(here, ensemble)
        references = {tier: reference(here, tier) for tier in Tier}
        catalogue |= _readings(here, references)
        reached |= _readings(kept, references)
        own |= _readings(kept, {tier: reference(kept, tier) for tier in Tier})
        for i, played in enumerate((here, kept)):
            seconds[i] += _seconds(played)
            plays[i] += len(played)
    releases = [r for r in everything if r.kind == "release"]
    shared = _seconds(releases)
    return Comparison(
        catalogue,
        {case: reached.get(case, 0.0) for case in catalogue},
        {case: own.get(case, 0.0) for case in catalogue},
        (seconds[0] + shared, seconds[1] + shared),
        (plays[0] + len(releases), plays[1] + len(releases)),
    )


def cascaded(here: Sequence[Record], ensemble: Sequence[str]) -> list[Record]:
    """The records of one match and seed that a run of the cascade would have made."""
    at = {(r.defense, r.attack): r for r in here}
    kept = [r for r in here if not r.uses_victim or (r.defense == "none" and r.attack in ensemble)]
    for defense in {r.defense: None for r in here if r.defense != "none"}:
        for attack in ensemble:
            record = at.get((defense, attack))
            if record is not None and record.tier and not settled(defense, record.tier, kept):
                kept.append(record)
    return kept


def choose(records: Iterable[Record]) -> list[str]:
    """A small ensemble that falls short of all recorded attacks nowhere by more than :data:`TOLERANCE`.

    From all of them, the dearest first, each is dropped that the rest can do without. In the order to play them: by
    tier, then the one that reaches most by itself first, since it settles most.
    """
    matches = _matches(records)
    references = [{tier: reference(here, tier) for tier in Tier} for here in matches]
    goal = [_readings(here, found) for here, found in zip(matches, references, strict=True)]
    played = group((r for here in matches for r in here if r.uses_victim and r.score), lambda r: r.attack or "")
    cost = {attack: _seconds(here) for attack, here in played.items()}

    def reached(chosen: Sequence[str]) -> list[dict[Case, float]]:
        kept = ([r for r in here if r.attack in chosen] for here in matches)
        return [_readings(here, found) for here, found in zip(kept, references, strict=True)]

    def enough(chosen: Sequence[str]) -> bool:
        return all(
            got.get(case, 0.0) >= value - TOLERANCE
            for got, want in zip(reached(chosen), goal, strict=True)
            for case, value in want.items()
        )

    chosen = sorted(played)
    for attack in sorted(played, key=lambda a: (-cost[a], a)):
        fewer = [a for a in chosen if a != attack]
        if enough(fewer):
            chosen = fewer
    alone = {a: sum(sum(got.values()) for got in reached([a])) for a in chosen}
    return sorted(chosen, key=lambda a: ((played[a][0].tier or Tier.DATA_FREE).rank, -alone[a], a))


def _seconds(records: Iterable[Record]) -> float:
    """What playing and evaluating took."""
    return sum(r.cost.wall_seconds + r.evaluation_cost.wall_seconds for r in records)


def _matches(records: Iterable[Record]) -> list[list[Record]]:
    attacks = (r for r in records if r.kind == "attack")
    return list(group(attacks, lambda r: (r.suite, r.tasks, r.seed)).values())


def _readings(here: Sequence[Record], references: Mapping[Tier, Reference | None]) -> dict[Case, float]:
    """Case -> what the strongest of these attacks recovers."""
    return dict(_cases(here, references))


def _cases(here: Sequence[Record], references: Mapping[Tier, Reference | None]) -> Iterator[tuple[Case, float]]:
    for defense, against in group(here, lambda r: r.defense).items():
        for tier, points in references.items():
            if defense != "none" and points is not None and points.is_match:
                allowed = [r for r in against if r.tier and tier.allows(r.tier)]
                first = against[0]
                case = Case(first.suite, spell(first.tasks), first.seed, defense, tier)
                yield case, worst_case(allowed, points).recovered
