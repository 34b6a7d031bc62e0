"""What the backdoor game is played on, and what it records."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal, Self

from pydantic import model_validator

from mergearena.bench.games.match import spell
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import record
from mergearena.bench.records.record import Shares
from mergearena.bench.suites import Split

TRACK = "backdoor"


@dataclass(frozen=True)
class Match:
    """Who contributes; the first ``malicious`` of them are one attacker's."""

    suite: str
    tasks: tuple[str, ...]
    malicious: int = 1

    @property
    def spelling(self) -> str:
        """``malicious+other+...``, as on the command line."""
        return spell(self.tasks)


class Record(record.Record):
    """One play. ``contribution``: an attack made its uploads. ``merge``: a merger met them, or clean ones."""

    track: Literal["backdoor"] = "backdoor"
    kind: Literal["contribution", "merge"]
    contributors: tuple[str, ...]
    """Their tasks, the malicious ones first."""
    malicious: int
    """How many of them are one attacker's; 0 where all are clean."""
    attack: str | None
    defense: str | None
    target_task: str | None = None
    target: int | None = None
    """Index of the class that the trigger is to be taken for."""
    tier: Tier | None = None
    """What the merger reads: nothing beyond weights, or unlabelled examples."""
    asr: Shares | None = None
    """Share of triggered inputs, not of the target class, that are taken for the target. A contribution's is that of
    the uploads alone."""
    robust: Shares | None = None
    """Share of the same inputs classified right."""
    base_asr: Shares | None = None
    """Contributions: the base's ASR under the same trigger, which may be adversarial already."""
    clean_asr: Shares | None = None
    """Contributions: that of the task-arithmetic merge of clean models."""
    clean_own_score: float | None = None
    """Contributions: the clean models' score on the malicious contributors' tasks, on validation."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "merge") != (self.defense is not None):
            raise ValueError("a merge names its defense, a contribution none")
        if (self.attack is None) != (self.malicious == 0) or (self.kind == "contribution" and self.attack is None):
            raise ValueError("whoever is malicious has an attack, and a contribution is malicious")
        if (self.asr is not None) != (self.status == "ok" and self.attack is not None):
            raise ValueError("an attack that finished has success rates, and nothing else has")
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """The contributors' tasks."""
        return self.contributors

    @property
    def title(self) -> str:
        """Attack and merger."""
        return f"{self.attack or 'clean'} × {self.defense or 'upload'}"

    @property
    def place(self) -> tuple[str, ...]:
        """Track, match, attack, merger."""
        return TRACK, spell(self.contributors), self.attack or "clean", self.defense or "contribution"

    def mean_score(self, split: Split) -> float:
        """Clean score, the mean over the tasks."""
        return fmean(self._on(self.score, split).values())

    def mean_robust(self, split: Split) -> float:
        """Robust score, the mean over the tasks."""
        return fmean(self._on(self.robust, split).values())

    def own_score(self, split: Split) -> float:
        """Clean score, the mean over the malicious contributors' tasks."""
        shares = self._on(self.score, split)
        return fmean(shares[task] for task in self.contributors[: self.malicious])

    def target_asr(self, split: Split) -> float:
        """ASR on the target's task: the headline."""
        assert self.target_task is not None
        return self._on(self.asr, split)[self.target_task]

    def succession(self, split: Split) -> float:
        """ASR on the malicious contributors' tasks, their mean."""
        shares = self._on(self.asr, split)
        return fmean(shares[task] for task in self.contributors[: self.malicious])

    def transfer(self, split: Split) -> float:
        """ASR on the clean contributors' tasks, their mean."""
        shares = self._on(self.asr, split)
        return fmean(shares[task] for task in self.contributors[self.malicious :])

    def _on(self, shares: Shares | None, split: Split) -> dict[str, float]:
        if shares is None:
            raise ValueError(f"{self.title} did not finish, or met no attack")
        return shares.on(split)
