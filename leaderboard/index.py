"""The records of one suite, indexed for the rows of its board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.flags import References, find_flags
from bench.game import Tier
from bench.games.protection import Record
from bench.scoring import Reference, group, reference, worst_case
from leaderboard.board import WorstPart


class Index:
    """The records of one suite: by kind, by match and seed, with reference points, worst cases and flags."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.releases = [r for r in records if r.kind == "release"]
        self.attacks = [r for r in records if r.kind == "attack"]
        self.at = group(self.attacks, lambda r: ("+".join(r.tasks), r.seed))
        self.references: References = {
            where: {tier: ref for tier in Tier if (ref := reference(here, tier)) is not None}
            for where, here in self.at.items()
        }
        self.flags = find_flags(records, self.references)
        self.defenses = sorted({r.defense for r in records})
        self.worst = {defense: list(self._worst(defense)) for defense in self.defenses}
        self.worst_by_weights = {d: list(self._worst(d, extraction=False)) for d in self.defenses}

    def reference_of(self, record: Record) -> Reference | None:
        """The reference of a record's own tier, if its match has something to steal there."""
        assert record.tier is not None
        found = self.references[("+".join(record.tasks), record.seed)].get(record.tier)
        return found if found is not None and found.is_match else None

    def recovered(self, records: Iterable[Record]) -> Iterable[float]:
        """What each finished attack recovers, where there is something to steal."""
        for r in records:
            ref = self.reference_of(r)
            if ref is not None and r.accuracy is not None:
                yield ref.points.recovered(r.victim, r.accuracy.test)

    def _worst(self, defense: str, extraction: bool = True) -> Iterable[WorstPart]:
        for (match, seed), here in sorted(self.at.items()):
            for tier, ref in self.references[match, seed].items():
                against = [
                    r
                    for r in here
                    if r.defense == defense and r.tier and tier.allows(r.tier) and (extraction or not r.extraction)
                ]
                # Evidence on a match that the defense was not evaluated on would add a case, and might raise the mean.
                if ref.is_match and any(r.uses_victim and r.accuracy and r.round == 0 for r in against):
                    strongest = worst_case(against, ref)
                    yield WorstPart(
                        match=match, seed=seed, tier=tier, attack=strongest.attack, recovered=strongest.recovered
                    )
