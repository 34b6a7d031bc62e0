"""Records: one JSON file per finished play, complete or absent, with everything needed to repeat it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mergearena.bench.records import text
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.fields import Share, Strict

Status = Literal["ok", "failed", "timeout", "memory", "crashed"]


class Shares(Strict):
    """Task -> share of examples, on the two splits that only the runner reads."""

    validation: dict[str, Share]
    test: dict[str, Share]

    def on(self, split: Literal["train", "validation", "test"]) -> dict[str, Share]:
        """Those of one split."""
        return self.test if split == "test" else self.validation


class Scores(Shares):
    """Task -> the suite's score."""


class Provenance(Strict):
    """What it takes to run this again."""

    code: dict[str, str]
    """Player -> identity of the code that decides its outcome; before version 3, SHA-256 of its source file."""
    checkpoints: dict[str, str]
    """Model -> SHA-256 of its weights."""
    packages: dict[str, str]
    python: str
    device: str
    threads: int
    seconds: PositiveFloat | None = None
    """What the player was given; None if not recorded, as before version 3."""
    memory_gib: PositiveFloat | None = None
    """Likewise."""
    executor: str = "local"
    """Where it was played."""
    suite_version: str = "1"
    scoring: str = "1"
    """The version of what the game's judge computes."""
    date: str
    """UTC, ISO 8601."""


class Record(Strict):
    """One play: what every game records. A game adds its own fields; ``track`` and ``kind`` are literals there."""

    schema_version: Literal[3] = text.VERSION
    first_version: Annotated[int, Field(ge=1, le=text.VERSION)] = text.VERSION
    """The schema version that it was first written in."""
    id: str
    """SHA-256 of what identifies the play: track, suite, match, players, seed, key, protocol."""
    track: str
    kind: str
    suite: str
    seed: int
    key: str
    """The run key that secret seeds are derived from."""
    metric: str
    """What the suite's score is, as in ``accuracy``."""
    examples: int
    """k: examples per task that players may read where their side may read any."""
    round: int = 0
    """0 for a first evaluation; evidence contributed later counts up."""
    status: Status
    reason: str | None = None
    """Why there is no result, where there is none."""
    score: Scores | None = None
    warnings: tuple[str, ...] = ()
    """What a player said it could not do well."""
    cost: Cost
    evaluation_cost: Cost
    fine_tuning_flops: PositiveInt
    """Operations of fine-tuning one model from the base: the unit of relative cost."""
    provenance: Provenance

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.status == "ok") != (self.score is not None):
            raise ValueError("a record has scores exactly when its status is ok")
        if self.score and any({*split} != {*self.tasks} for split in (self.score.validation, self.score.test)):
            raise ValueError(f"scores are of exactly the tasks {', '.join(self.tasks)}, on both splits")
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it has scores of."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Who met whom, for the terminal."""
        raise NotImplementedError

    @property
    def place(self) -> tuple[str, ...]:
        """Folders below the suite's, and the file's name without seed and id: spellings, made safe elsewhere."""
        raise NotImplementedError

    @property
    def made_by_earlier_code(self) -> bool:
        """Whether it was made before players' code was identified as it is now, so that nobody can tell if it changed.

        Such a record stays what it is, on the board too; a run plays it again.
        """
        return self.first_version < text.VERSION

    @property
    def relative_cost(self) -> float:
        """The player's operations / operations of fine-tuning one model from the base."""
        return self.cost.flops / self.fine_tuning_flops
