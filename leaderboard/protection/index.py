"""The records of one suite, indexed for the rows of its board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mergearena.bench.games.match import spell
from mergearena.bench.games.protection import Record
from mergearena.bench.games.protection.flags import References, find_flags
from mergearena.bench.games.protection.scoring import Reference, Strongest, reference, worst_case
from mergearena.bench.games.statistics import group
from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.board.shared import mean
from mergearena.leaderboard.protection.parts import WorstPart


class Index:
    """The records of one suite: by kind, by match and seed, with reference points, worst cases and flags."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.releases = [r for r in records if r.kind == "release"]
        self.attacks = [r for r in records if r.kind == "attack"]
        self.at = group(self.attacks, lambda r: (spell(r.tasks), r.seed))
        self.references: References = {
            where: {tier: ref for tier in Tier if (ref := reference(here, tier)) is not None}
            for where, here in self.at.items()
        }
        self.contested = {
            match for (match, _), tiers in self.references.items() if (r := tiers.get(Tier.DATA_FREE)) and r.is_match
        }
        """The matches with something to steal by weights alone: who is ranked was evaluated on all of them."""
        self.flags = find_flags(records, self.references)
        self.defenses = sorted({r.defense for r in records})
        self.against = group(self.attacks, lambda r: r.defense)
        self.worst = {defense: self.worst_of(defense) for defense in self.defenses}
        self.worst_by_weights = {d: list(self._worst(d, lambda r: not r.extraction)) for d in self.defenses}

    def worst_of(self, defense: str, latest: int | None = None) -> list[WorstPart]:
        """The strongest attack on each match and seed in each tier; up to a round of evidence, or in all."""
        return list(self._worst(defense, lambda r: latest is None or r.round <= latest))

    def reference_of(self, record: Record) -> Reference | None:
        """The reference of a record's own tier, if its match has something to steal there."""
        assert record.tier is not None
        found = self.references[(spell(record.tasks), record.seed)].get(record.tier)
        return found if found is not None and found.is_match else None

    def recovered(self, records: Iterable[Record]) -> Iterable[float]:
        """What each finished attack recovers, where there is something to steal."""
        for r in records:
            ref = self.reference_of(r)
            if ref is not None and r.score is not None:
                yield ref.points.recovered(r.victim, r.score.test)

    def _worst(self, defense: str, counts: Callable[[Record], bool]) -> Iterator[WorstPart]:
        at = group(filter(counts, self.against.get(defense, ())), lambda r: (spell(r.tasks), r.seed))
        for (match, seed), here in sorted(at.items()):
            for tier, ref in self.references[match, seed].items():
                against = [r for r in here if r.tier and tier.allows(r.tier)]
                # Evidence on a match that the defense was not evaluated on would add a case, and might raise the mean.
                if not ref.is_match or not any(r.uses_victim and r.score and r.round == 0 for r in against):
                    continue
                worst = worst_case(against, ref)
                test = _scores(worst, against, ref)
                victim = against[0].victim
                yield WorstPart(
                    match=match,
                    seed=seed,
                    tier=tier,
                    attack=worst.attack,
                    recovered=worst.recovered,
                    score=test.get(victim),
                    donor_score=mean(share for task, share in test.items() if task != victim),
                )


def _scores(worst: Strongest, records: Iterable[Record], ref: Reference) -> dict[str, float]:
    """Test scores of the strongest attack's merged model; empty where none qualified."""
    played = (r for r in records if r.score and r.attack == worst.attack)
    found = (r.score.test for r in played if r.score and ref.points.qualifies(r.victim, r.score.test))
    return next(found, {})
