"""The data model of the backdoor game's board."""

from __future__ import annotations

from mergearena.bench.records.cost import Cost
from mergearena.bench.records.fields import Share
from mergearena.leaderboard.board.parts import Part, ShareInterval, SuitePart


class BackdoorWorstPart(Part):
    """The strongest malicious contributor on one match and seed, chosen on validation."""

    match: str
    seed: int
    attack: str
    asr: Share


class MergerPart(Part):
    """A row of the ranking of safe mergers."""

    rank: int | None
    """By worst-case ASR among those within two points of the best clean score; overlapping intervals tie."""
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
    score: Share | None
    """Clean score under attack, the mean over tasks and attacks."""
    score_unattacked: Share | None
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
    score_alone: Share | None
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
    score: Share | None


class BackdoorBoard(SuitePart):
    """The board of safe mergers on one suite."""

    matches: tuple[str, ...]
    mergers: tuple[MergerPart, ...]
    contributors: tuple[ContributorPart, ...]
    cells: tuple[BackdoorCellPart, ...]
