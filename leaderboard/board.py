"""The board's data model; its JSON Schema is committed as ``schema.json``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.cost import Cost
from bench.game import Tier

Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """Anything on a board."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class IntervalPart(Part):
    """A mean with its 95 % bootstrap interval over matches and seeds."""

    mean: Share
    low: Share
    high: Share
    matches: int
    """Matches (times seeds) with something to steal in this tier."""

    def overlaps(self, other: IntervalPart) -> bool:
        """Whether some value lies in both intervals."""
        return self.low <= other.high and other.low <= self.high


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
    accuracy: Share | None
    """Of its merged model, on the victim's task."""
    donor_accuracy: Share | None
    """Its mean over the donors' tasks."""


class ReleasePart(Part):
    """One victim as a defense released it, on test."""

    victim: str
    seed: int
    accuracy: Share
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


class FlagPart(Part):
    """What to distrust."""

    name: str
    defense: str | None
    attack: str | None
    match: str
    detail: str


class DefensePart(Part):
    """A row of the defense ranking."""

    rank: int | None
    """Equal ranks are ties: their data-free interval overlaps that of the first of the rank. None: not ranked."""
    unranked_because: str | None
    defense: str
    resistance: dict[str, IntervalPart]
    resistance_of_weights: dict[str, IntervalPart]
    """The same with extraction left out: attacks that need the released model's answers, whatever its weights."""
    protected_accuracy: Share | None
    finetuned_accuracy: Share | None
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
    merged_accuracy: Share | None
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
    merged_accuracy: Share | None
    victim_accuracy: Share | None
    donor_accuracy: Share | None
    relative_cost: float | None


class FailurePart(Part):
    """A play without a result."""

    kind: str
    match: str
    seed: int
    defense: str | None
    attack: str | None
    status: str
    reason: str


class ProtocolPart(Part):
    """What was held fixed, and what ran."""

    examples: tuple[int, ...]
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    devices: tuple[str, ...]
    python: tuple[str, ...]
    packages: dict[str, tuple[str, ...]]
    code: dict[str, tuple[str, ...]]
    """Player -> SHA-256 of its source file."""
    checkpoints: dict[str, tuple[str, ...]]
    """Model -> SHA-256 of its weights."""
    dates: tuple[str, str]
    """First and last."""
    records: int


class SuiteBoard(Part):
    """The board of one suite."""

    suite: str
    protocol: ProtocolPart
    defenses: tuple[DefensePart, ...]
    attacks: tuple[AttackPart, ...]
    cells: tuple[CellPart, ...]
    matches: tuple[MatchPart, ...]
    flags: tuple[FlagPart, ...]
    failures: tuple[FailurePart, ...]

    @property
    def ties(self) -> frozenset[str]:
        """The defenses that :func:`tied` finds."""
        return tied(self.defenses)


class ShareInterval(Part):
    """A share with its 95 % bootstrap interval over matches and seeds."""

    mean: Share
    low: Share
    high: Share


class BackdoorWorstPart(Part):
    """The strongest malicious contributor on one match and seed, chosen on validation."""

    match: str
    seed: int
    attack: str
    asr: Share


class MergerPart(Part):
    """A row of the ranking of safe mergers."""

    rank: int | None
    """By worst-case ASR among those within two points of the best clean accuracy; overlapping intervals tie."""
    unranked_because: str | None
    defense: str
    tier: str
    worst_asr: ShareInterval | None
    """Mean over matches and seeds of the strongest attack's ASR on the target's task."""
    succession: Share | None
    """Mean ASR over attacks: on the attacker's own task."""
    transfer: Share | None
    """Mean ASR over attacks: on the other tasks."""
    robust: Share | None
    """Triggered inputs still classified right."""
    accuracy: Share | None
    """Clean accuracy under attack, the mean over tasks and attacks."""
    accuracy_unattacked: Share | None
    relative_cost: float | None
    """Operations to merge / operations of fine-tuning one model."""
    cost: Cost | None
    worst: tuple[BackdoorWorstPart, ...]


class ContributorPart(Part):
    """A row of the ranking of malicious contributors."""

    attack: str
    asr: Share | None
    """Mean over mergers, on the target's task."""
    alone: Share | None
    """ASR of the upload alone, on the target's task."""
    base: Share | None
    """ASR of the base under the same trigger."""
    clean: Share | None
    """ASR of the task-arithmetic merge of clean models under the same trigger."""
    accuracy_alone: Share | None
    """Of the upload, on its own task."""
    relative_cost: float | None
    cost: Cost | None


class BackdoorCellPart(Part):
    """One merger against one malicious contributor (None: all are clean), over matches and seeds."""

    defense: str
    attack: str | None
    plays: int
    status: dict[str, int]
    asr: Share | None
    """On the target's task."""
    succession: Share | None
    transfer: Share | None
    robust: Share | None
    accuracy: Share | None


class BackdoorBoard(Part):
    """The board of safe mergers on one suite."""

    suite: str
    protocol: ProtocolPart
    matches: tuple[str, ...]
    mergers: tuple[MergerPart, ...]
    contributors: tuple[ContributorPart, ...]
    cells: tuple[BackdoorCellPart, ...]
    flags: tuple[FlagPart, ...]
    failures: tuple[FailurePart, ...]


class SubmissionPart(Part):
    """What somebody submitted, and who answers for it."""

    name: str
    kind: str
    """``defense``, ``attack``, or ``evaluation``: later evidence on known defenses."""
    authors: tuple[str, ...]
    paper: str
    date: str
    players: tuple[str, ...]
    """As spelled on the board."""
    code: str | None
    """SHA-256 of the file that registers them."""


class OptionPart(Part):
    """One option of a player."""

    name: str
    default: str
    """As spelled; ``required`` where there is none."""
    meaning: str


class PlayerPart(Part):
    """A player of this project that some record met, in its author's words."""

    name: str
    kind: str
    paper: str
    description: str
    """Its docstring."""
    options: tuple[OptionPart, ...]


class Leaderboard(Part):
    """The whole board: one board per track and suite."""

    schema_version: Literal[5] = 5
    protection: tuple[SuiteBoard, ...]
    backdoor: tuple[BackdoorBoard, ...] = ()
    players: tuple[PlayerPart, ...] = ()
    submissions: tuple[SubmissionPart, ...] = ()


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
