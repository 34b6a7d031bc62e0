"""Sweeps: the same plays for each of several values; one row per play, and curves through their means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mergearena.bench.games import backdoor, protection
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protection.scoring import Reference, reference, worst_case
from mergearena.bench.games.statistics import Interval, bootstrap, group
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.record import Record

PLACE = "{}"
"""Where a value goes in an option."""
METRICS: Mapping[str, Mapping[str, str]] = {
    "protection": {
        "recovered": "recovered of the victim's skill",
        "merged_score": "merged score",
        "protected_score": "protected score",
    },
    "backdoor": {"asr": "attack success rate", "transfer": "transfer to clean tasks", "score": "clean score"},
}
"""Track -> what is measured on test and how it is called; the headline first."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Names:
    """Spellings of the players at one value -> how the sweep calls them: as they were given, places and all."""

    defenses: Mapping[str, str]
    attacks: Mapping[str, str]

    @classmethod
    def of(cls, track: str, value: str, defenses: Sequence[str], attacks: Sequence[str]) -> Names:
        """The names of what was given; every step of ``auto`` is called so."""
        if track == "backdoor":
            return cls(
                {parse_merger(filled(text, value)).spelling: text for text in defenses},
                {parse_backdoor(filled(text, value)).spelling: text for text in attacks},
            )
        steps = dict.fromkeys(presets.AUTO, presets.AUTO_NAME) if presets.AUTO_NAME in attacks else {}
        named = {parse_attack(filled(t, value)).spelling: t for t in attacks if t != presets.AUTO_NAME}
        return cls({parse_defense(filled(text, value)).spelling: text for text in defenses}, {**steps, **named})


def filled(text: str, value: str) -> str:
    """An option with the value in its place."""
    return text.replace(PLACE, value)


class References:
    """The reference points of a sweep: one ceiling for all values that leave match and examples as they are."""

    def __init__(self, played: Iterable[Record]) -> None:
        """Take the records of every value."""
        attacks = [r for r in played if isinstance(r, protection.Record) and r.kind == "attack"]
        self._found = {
            case: {tier: reference(here, tier) for tier in Tier} for case, here in group(attacks, self._case).items()
        }

    def of(self, record: protection.Record, tier: Tier) -> Reference | None:
        """Those of a record's match in a tier, if there is something to steal."""
        found = self._found[self._case(record)][tier]
        return found if found is not None and found.is_match else None

    def _case(self, record: protection.Record) -> tuple[tuple[str, ...], int, int]:
        return record.tasks, record.seed, record.examples


def rows_of(value: str, played: Iterable[Record], names: Names, references: References) -> Iterator[Row]:
    """One row per defense, attack, match and seed at one value; ``auto`` is the strongest of its steps."""
    for record in played:
        if isinstance(record, backdoor.Record) and record.kind == "merge" and record.attack is not None:
            yield {"value": value, **_merge(record, names)}
    protected = [record for record in played if isinstance(record, protection.Record)]
    releases = {(r.defense, r.victim, r.seed): r for r in protected if r.kind == "release"}
    cases = group((r for r in protected if r.kind == "attack"), lambda r: (r.tasks, r.seed))
    for here in cases.values():
        for record, attack, recovered in _attacks(here, names, references):
            release = releases.get((record.defense, record.victim, record.seed))
            yield {
                "value": value,
                "defense": names.defenses[record.defense],
                "attack": attack,
                "match": "+".join(record.tasks),
                "seed": record.seed,
                "status": record.status,
                "recovered": recovered,
                "merged_score": fmean(record.score.test.values()) if record.score else None,
                "protected_score": release.score.test[record.victim] if release and release.score else None,
            }


def _attacks(
    here: Sequence[protection.Record], names: Names, references: References
) -> Iterator[tuple[protection.Record, str, float | None]]:
    """The attacks of one match and seed, how the sweep calls them, and what they recover in their own tier."""
    swept = [r for r in here if r.uses_victim and r.defense in names.defenses and r.attack in names.attacks]
    for (_, name), same in group(swept, lambda r: (r.defense, names.attacks[r.attack or ""])).items():
        points = references.of(same[0], max((r.tier for r in same if r.tier), key=lambda tier: tier.rank))
        if points is None or not any(r.score for r in same):
            yield same[0], name, None
        else:
            worst = worst_case(same, points)
            yield next((r for r in same if r.attack == worst.attack), same[0]), name, worst.recovered


def _merge(record: backdoor.Record, names: Names) -> Row:
    done = record.asr is not None
    return {
        "defense": names.defenses[record.defense or ""],
        "attack": names.attacks[record.attack or ""],
        "match": "+".join(record.contributors),
        "seed": record.seed,
        "status": record.status,
        "asr": record.target_asr("test") if done else None,
        "transfer": record.transfer("test") if done else None,
        "score": record.mean_score("test") if done else None,
    }


def means(rows: Iterable[Row], metric: str) -> dict[tuple[str, str], dict[str, Interval]]:
    """(defense, attack) -> value -> the mean over matches and seeds, with its interval; values without any left out."""
    found: dict[tuple[str, str], dict[str, Interval]] = {}
    known = [row for row in rows if row.get(metric) is not None]
    for (defense, attack, value), here in group(known, lambda r: (r["defense"], r["attack"], r["value"])).items():
        by_match = group(here, lambda row: row["match"]).values()
        interval = bootstrap([[row[metric] for row in match] for match in by_match])
        found.setdefault((defense, attack), {})[value] = interval
    return found
