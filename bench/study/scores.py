"""What an attack recovers, on one split: validation while a study searches, test once it is over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from mergearena.bench.games.protection import Record
from mergearena.bench.games.protection.scoring import Reference, reference
from mergearena.bench.games.statistics import group
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.record import Scores

Split = Literal["validation", "test"]
Case = tuple[tuple[str, ...], int]
"""A match's tasks, the victim's first, and a seed."""


@dataclass(frozen=True)
class Scale:
    """The reference points of a study's cases on one split."""

    split: Split
    references: dict[Case, Reference]

    def recovered(self, attack: Iterable[Record]) -> float:
        """The mean over the cases of what an attack recovers, of its records; where it has none, did not finish or does
        not qualify, it recovers 0.
        """
        at = {case_of(record): record for record in attack}
        return fmean(self._share(at.get(case), of) for case, of in self.references.items())

    def _share(self, record: Record | None, of: Reference) -> float:
        if record is None or record.score is None:
            return 0.0
        return of.points.recovered(record.victim, record.score.on(self.split))


def scale(records: Iterable[Record], tier: Tier, split: Split) -> Scale:
    """The reference points on a split, of the cases with something to steal on validation.

    They are those of the attacks that met no defense: a study's trials meet none but their own, and so move nothing.
    """
    seen = group((_seen(r, "validation") for r in records if r.kind == "attack"), case_of)
    matches = {case for case, here in seen.items() if (found := reference(here, tier)) and found.is_match}
    read = group((_seen(r, split) for r in records if r.kind == "attack"), case_of)
    return Scale(split, {case: found for case in sorted(matches) if (found := reference(read[case], tier))})


def case_of(record: Record) -> Case:
    """Where a record belongs."""
    return record.tasks, record.seed


def _seen(record: Record, split: Split) -> Record:
    """A record with the scores of one split in place of both: who searches does not see test at all."""
    if record.score is None:
        return record
    shares = record.score.on(split)
    validation = record.score.validation
    return record.model_copy(update={"score": Scores(validation=validation, test=shares)})
