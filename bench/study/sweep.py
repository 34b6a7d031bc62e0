"""Sweeps: the same plays for each of several values; one row per play, and curves through their means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from mergearena.bench import suites
from mergearena.bench.errors import UnknownName
from mergearena.bench.games import backdoor, protection
from mergearena.bench.games.backdoor import presets as backdoor_presets
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.match import spell
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protection.scoring import Reference, reference, worst_case
from mergearena.bench.games.statistics import Interval, bootstrap, group
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.record import Record

PLACE = "{}"
"""Where a value goes in an option."""

Row = Mapping[str, Any]
Spellings = Mapping[str, Sequence[str]]
"""How a sweep calls a player, as it was given, places and all -> the spellings that play under that name."""


def filled(text: str, value: str) -> str:
    """An option with the value in its place."""
    return text.replace(PLACE, value)


@dataclass(frozen=True)
class Names:
    """The players at one value. Two names may have one spelling there: each has rows of its own."""

    defenses: Spellings
    attacks: Spellings

    @classmethod
    def of(cls, track: str, value: str, defenses: Sequence[str], attacks: Sequence[str]) -> Names:
        """The players that were given, with the value in its places."""
        game = game_of(track)
        return cls(
            {text: game.defense(filled(text, value)) for text in defenses},
            {text: game.attack(filled(text, value)) for text in attacks},
        )


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


class Game(ABC):
    """What a sweep knows of one game."""

    metrics: ClassVar[Mapping[str, str]]
    """What is measured on test and how it is called; the headline first."""

    @abstractmethod
    def defense(self, text: str) -> Sequence[str]:
        """The canonical spellings of what a text asks for."""

    @abstractmethod
    def attack(self, text: str) -> Sequence[str]:
        """The canonical spellings of what a text asks for."""

    @abstractmethod
    def quick(self, suite: str) -> tuple[Sequence[str], Sequence[str]]:
        """Defenses and attacks of the quick preset, for sides that are not given."""

    @abstractmethod
    def rows(self, played: Iterable[Record], names: Names, references: References) -> Iterator[Row]:
        """One row per defense, attack, match and seed, of the records of this game, without the value."""


class _Protection(Game):
    metrics: ClassVar[Mapping[str, str]] = {
        "recovered": "recovered of the victim's skill",
        "merged_score": "merged score",
        "protected_score": "protected score",
    }

    def defense(self, text: str) -> Sequence[str]:
        return (parse_defense(text).spelling,)

    def attack(self, text: str) -> Sequence[str]:
        return presets.AUTO if text == presets.AUTO_NAME else (parse_attack(text).spelling,)

    def quick(self, suite: str) -> tuple[Sequence[str], Sequence[str]]:
        grid = presets.preset("quick", suite, tuple(suites.get(suite).tasks))
        return grid.defenses, grid.attacks

    def rows(self, played: Iterable[Record], names: Names, references: References) -> Iterator[Row]:
        own = [record for record in played if isinstance(record, protection.Record)]
        releases = {(r.defense, r.victim, r.seed): r for r in own if r.kind == "release"}
        attacks = (r for r in own if r.kind == "attack" and r.uses_victim)
        for here in group(attacks, lambda r: (r.tasks, r.seed)).values():
            for defense, attack, same in _crossed(here, names):
                record, recovered = _strongest(same, references)
                release = releases.get((record.defense, record.victim, record.seed))
                yield {
                    "defense": defense,
                    "attack": attack,
                    "match": spell(record.tasks),
                    "seed": record.seed,
                    "status": record.status,
                    "recovered": recovered,
                    "merged_score": fmean(record.score.test.values()) if record.score else None,
                    "protected_score": release.score.test[record.victim] if release and release.score else None,
                }


class _Backdoor(Game):
    metrics: ClassVar[Mapping[str, str]] = {
        "asr": "attack success rate",
        "transfer": "transfer to clean tasks",
        "score": "clean score",
    }

    def defense(self, text: str) -> Sequence[str]:
        return (parse_merger(text).spelling,)

    def attack(self, text: str) -> Sequence[str]:
        return (parse_backdoor(text).spelling,)

    def quick(self, suite: str) -> tuple[Sequence[str], Sequence[str]]:
        grid = backdoor_presets.preset("quick", suite, tuple(suites.get(suite).tasks))
        return grid.mergers, grid.attacks

    def rows(self, played: Iterable[Record], names: Names, references: References) -> Iterator[Row]:
        merges = [r for r in played if isinstance(r, backdoor.Record) and r.kind == "merge" and r.attack is not None]
        for defense, attack, here in _crossed(merges, names):
            for record in here:
                done = record.asr is not None
                yield {
                    "defense": defense,
                    "attack": attack,
                    "match": spell(record.contributors),
                    "seed": record.seed,
                    "status": record.status,
                    "asr": record.target_asr("test") if done else None,
                    "transfer": record.transfer("test") if done else None,
                    "score": record.mean_score("test") if done else None,
                }


GAMES: Mapping[str, Game] = {"protection": _Protection(), "backdoor": _Backdoor()}
"""Track -> what a sweep knows of its game."""


def game_of(track: str) -> Game:
    """The game of a track.

    Raises:
        UnknownName: it cannot be swept.
    """
    if track not in GAMES:
        raise UnknownName(f"track {track!r} cannot be swept; there are: {', '.join(GAMES)}")
    return GAMES[track]


def rows_of(value: str, played: Iterable[Record], names: Names, references: References) -> Iterator[Row]:
    """One row per defense, attack, match and seed at one value; ``auto`` is the strongest of its steps."""
    records = list(played)
    for game in GAMES.values():
        for row in game.rows(records, names, references):
            yield {"value": value, **row}


def _crossed(records: Sequence[Any], names: Names) -> Iterator[tuple[str, str, list[Any]]]:
    """Every defense and attack by name, and the records in which they met, if they did."""
    met = group(records, lambda r: (r.defense, r.attack))
    for defense, chains in names.defenses.items():
        for attack, pipelines in names.attacks.items():
            here = [record for d in chains for a in pipelines for record in met.get((d, a), ())]
            if here:
                yield defense, attack, here


def _strongest(same: Sequence[protection.Record], references: References) -> tuple[protection.Record, float | None]:
    """The record of the strongest of these attacks on one match, and what it recovers in the highest tier of them."""
    points = references.of(same[0], max((r.tier for r in same if r.tier), key=lambda tier: tier.rank))
    if points is None or not any(r.score for r in same):
        return same[0], None
    worst = worst_case(same, points)
    return next((r for r in same if r.attack == worst.attack), same[0]), worst.recovered


def means(rows: Iterable[Row], metric: str) -> dict[tuple[str, str], dict[str, Interval]]:
    """(defense, attack) -> value -> the mean over matches and seeds, with its interval; values without any left out."""
    found: dict[tuple[str, str], dict[str, Interval]] = {}
    known = [row for row in rows if row.get(metric) is not None]
    for (defense, attack, value), here in group(known, lambda r: (r["defense"], r["attack"], r["value"])).items():
        by_match = group(here, lambda row: row["match"]).values()
        interval = bootstrap([[row[metric] for row in match] for match in by_match])
        found.setdefault((defense, attack), {})[value] = interval
    return found
