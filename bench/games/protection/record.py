"""What the protection game is played on, and what it records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import model_validator

from mergearena.bench.games.match import spell
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import record

TRACK = "protection"


@dataclass(frozen=True)
class Match:
    """One victim and the donors it is merged with, on one suite."""

    suite: str
    victim: str
    donors: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The victim's task and the donors'."""
        return (self.victim, *self.donors)

    @property
    def spelling(self) -> str:
        """``victim+donor+...``, as on the command line."""
        return spell(self.tasks)


class Record(record.Record):
    """One play. ``release``: a defense rewrote a victim. ``attack``: a pipeline met a released model."""

    track: Literal["protection"] = "protection"
    kind: Literal["release", "attack"]
    victim: str
    donors: tuple[str, ...]
    """Empty for a release, which does not depend on them."""
    defense: str
    attack: str | None = None
    tier: Tier | None = None
    uses_victim: bool = True
    """False for baselines, which measure the floor."""
    extraction: bool = False
    """Whether the attack needs the released model's answers rather than its weights."""
    claims_function: bool | None = None
    """Releases: whether the defense claims to preserve the function."""
    logit_difference: float | None = None
    """Releases: largest |difference| of logits from the victim's on held-out inputs / largest |logit|."""
    task_vector_ratio: float | None = None
    """Attacks: norm of the aligned victim's task vector / mean norm of the donors'."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "attack") != (self.attack is not None and self.tier is not None):
            raise ValueError("an attack record names its attack and tier, a release neither")
        return self

    @property
    def match(self) -> tuple[str, str, tuple[str, ...]]:
        """(suite, victim, donors)."""
        return self.suite, self.victim, self.donors

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the match, the victim first."""
        return (self.victim, *self.donors)

    @property
    def title(self) -> str:
        """Defense and attack."""
        return f"{self.defense} × {self.attack or 'release'}"

    @property
    def place(self) -> tuple[str, ...]:
        """Match, defense, attack."""
        return spell(self.tasks), self.defense, self.attack or "release"
