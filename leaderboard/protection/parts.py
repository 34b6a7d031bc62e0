"""The board's data model; its JSON Schema is committed as ``schema.json``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mergearena.bench.players.tier import Tier
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.fields import Share
from mergearena.leaderboard.board.parts import IntervalPart, Part, SuitePart


class ReferencePart(Part):
    """Reference points of one match and seed in one tier, on test."""

    floor: Share
    ceiling: Share
    donor_ceiling: Share
    floor_by: str
    ceiling_by: str
    is_match: bool


class MatchPart(Part):
    """One match and seed."""

    match: str
    victim: str
    donors: tuple[str, ...]
    seed: int
    finetuned: Share | None
    tiers: dict[str, ReferencePart]


class WorstPart(Part):
    """The strongest attack on one match and seed in one tier."""

    match: str
    seed: int
    tier: str
    attack: str | None
    """None where no attack qualified."""
    recovered: Share
    score: Share | None
    """Of its merged model, on the victim's task."""
    donor_score: Share | None
    """Its mean over the donors' tasks."""


class ReleasePart(Part):
    """One victim as a defense released it, on test."""

    victim: str
    seed: int
    score: Share
    fidelity: float | None
    logit_difference: float | None


class RoundPart(Part):
    """What was known of a defense after one round of evidence."""

    round: int
    """0: its first evaluation."""
    dates: tuple[str, str]
    """First and last play of the round."""
    attacks: tuple[str, ...]
    """Who attacked it in this round."""
    resistance: dict[str, Share]
    """Tier -> mean, this and all earlier rounds counted."""


class DefensePart(Part):
    """A row of the defense ranking."""

    rank: int | None
    """Equal ranks are ties: their data-free interval overlaps that of the first of the rank. None: not ranked."""
    unranked_because: str | None
    defense: str
    resistance: dict[str, IntervalPart]
    resistance_of_weights: dict[str, IntervalPart]
    """The same with extraction left out: attacks that need the released model's answers, whatever its weights."""
    protected_score: Share | None
    finetuned_score: Share | None
    fidelity: float | None
    logit_difference: float | None
    claims_function: bool | None
    protect_cost: Cost | None
    """Mean over releases."""
    relative_protect_cost: float | None
    """Operations to protect / operations of fine-tuning the victim."""
    releases: tuple[ReleasePart, ...]
    worst: tuple[WorstPart, ...]
    history: tuple[RoundPart, ...]
    flags: tuple[str, ...]

    def without_extraction(self, tier: str) -> float | None:
        """The mean resistance with extraction left out, where that makes a difference."""
        whole, weights = self.resistance.get(tier), self.resistance_of_weights.get(tier)
        return None if weights is None or weights == whole else weights.mean


class AttackPart(Part):
    """A row of the attack ranking."""

    attack: str
    tier: str
    uses_victim: bool
    extraction: bool
    recovered: Share | None
    """Mean over defenses other than none, and matches, that it met: late steps of ``auto`` meet only what resists."""
    defenses_met: int
    """How many defenses, none aside, it has a result on; those that met fewer than others come after them."""
    strongest_share: Share | None
    """Share of (defense, match, seed) where it is the strongest of its tier."""
    merged_score: Share | None
    relative_cost: float | None
    cost: Cost | None
    failures: int
    flags: tuple[str, ...]


class CellPart(Part):
    """One defense against one attack, over matches and seeds."""

    defense: str
    attack: str
    tier: str
    plays: int
    status: dict[str, int]
    qualified: int
    recovered: Share | None
    """None if no play finished on a match with something to steal."""
    merged_score: Share | None
    victim_score: Share | None
    donor_score: Share | None
    relative_cost: float | None


class SuiteBoard(SuitePart):
    """The board of one suite."""

    defenses: tuple[DefensePart, ...]
    attacks: tuple[AttackPart, ...]
    cells: tuple[CellPart, ...]
    matches: tuple[MatchPart, ...]

    @property
    def ties(self) -> frozenset[str]:
        """The defenses that :func:`tied` finds."""
        return tied(self.defenses)


def tied(rows: Sequence[DefensePart]) -> frozenset[str]:
    """The ranked defenses that the data do not tell from another, by their data-free intervals.

    A defense ties if it shares its rank, or overlaps a neighbour in the ranking: overlap is not transitive, so that
    neighbours of different ranks can overlap, too.
    """
    ranked = [row for row in rows if row.rank is not None]
    found = {row.defense for row in ranked if sum(other.rank == row.rank for other in ranked) > 1}
    for one, other in pairwise(ranked):
        if one.resistance[Tier.DATA_FREE].overlaps(other.resistance[Tier.DATA_FREE]):
            found |= {one.defense, other.defense}
    return frozenset(found)
