"""What a player's process left behind: believed only as far as it has the form of a result.

The process ran code that may want to mislead: links to files that it could not read itself, pipes that never end,
fields of the record that are not its to fill.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mergearena.bench.games.base import Facts
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.record import Status

RESULT, TENSORS = "result.json", "result.safetensors"
LONGEST_REASON = 500
_MOST = 2**20


@dataclass(frozen=True)
class Outcome:
    """What came of a play."""

    status: Status
    reason: str | None
    fields: Mapping[str, Any]
    """Fields of the record: cost, and where the play succeeded score and the like."""
    result: Path | None
    """What the player returned; whoever wants to keep it moves it."""
    error: str | None = None
    """The name of the exception that ended the play, where one did."""


class _Told(BaseModel):
    """``result.json``."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    status: Literal["ok", "failed", "memory"]
    reason: Annotated[str, Field(max_length=LONGEST_REASON * 4)] | None = None
    error: Annotated[str, Field(max_length=100)] | None = None
    cost: Cost = Cost()
    facts: dict[str, Any] = {}
    warnings: Annotated[tuple[Annotated[str, Field(max_length=2000)], ...], Field(max_length=100)] = ()


def failure(status: Status, reason: str, error: str | None = None) -> Outcome:
    """An outcome without a result."""
    return Outcome(status, reason, {"cost": Cost(), "evaluation_cost": Cost()}, None, error)


def read(out: Path, facts: type[Facts]) -> Outcome | None:
    """The outcome that a player's process told, or None if it left none. To be called when the process has ended."""
    path = out / RESULT
    if not os.path.lexists(path):
        return None
    try:
        told = _Told.model_validate_json(_text(path))
        theirs = facts.model_validate(told.facts)
        if any(value < 0 for value in told.cost.model_dump().values()):
            raise ValueError("a cost below 0")
        if told.status == "ok" and not _is_plain(out / TENSORS):
            raise ValueError(f"{TENSORS} is not a plain file")
    except (OSError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        return failure("crashed", f"its process left a result that is none: {detail[:LONGEST_REASON]}")
    if told.status != "ok":
        return failure(told.status, (told.reason or "no reason given")[:LONGEST_REASON], told.error)
    fields = {**theirs.model_dump(), "cost": told.cost, "warnings": told.warnings}
    return Outcome("ok", None, fields, out / TENSORS)


def _text(path: Path) -> bytes:
    """The file's content; never waits, follows no link."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{RESULT} is not a plain file")
        text = file.read(_MOST + 1)
    if len(text) > _MOST:
        raise ValueError(f"{RESULT} is over {_MOST} bytes long")
    return text


def _is_plain(path: Path) -> bool:
    """Whether it is a file of its own: no link to another, under whatever name."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
