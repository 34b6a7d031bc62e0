"""Records: one JSON file per finished play, complete or absent, with everything needed to repeat it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from bench import games, record_text
from bench.cost import Cost
from bench.errors import BadRecord, UnknownName

Status = Literal["ok", "failed", "timeout", "memory", "crashed"]
Share = Annotated[float, Field(ge=0, le=1)]
_DIGITS = 12
"""Of an id, in a file's name."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Shares(_Strict):
    """Task -> share of examples, on the two splits that only the runner reads."""

    validation: dict[str, Share]
    test: dict[str, Share]

    def on(self, split: Literal["train", "validation", "test"]) -> dict[str, Share]:
        """Those of one split."""
        return self.test if split == "test" else self.validation


class Accuracy(Shares):
    """Task -> share classified right."""


class Provenance(_Strict):
    """What it takes to run this again."""

    code: dict[str, str]
    """Player -> SHA-256 of its source file."""
    checkpoints: dict[str, str]
    """Model -> SHA-256 of its weights."""
    packages: dict[str, str]
    python: str
    device: str
    threads: int
    date: str
    """UTC, ISO 8601."""


class Record(_Strict):
    """One play: what every game records. A game adds its own fields; ``track`` and ``kind`` are literals there."""

    schema_version: Literal[2] = record_text.VERSION
    id: str
    """SHA-256 of what identifies the play: track, suite, match, players, seed, key, protocol."""
    track: str
    kind: str
    suite: str
    seed: int
    key: str
    """The run key that secret seeds are derived from."""
    examples: int
    """k: examples per task that players may read where their side may read any."""
    round: int = 0
    """0 for a first evaluation; evidence contributed later counts up."""
    status: Status
    reason: str | None = None
    """Why there is no result, where there is none."""
    accuracy: Accuracy | None = None
    warnings: tuple[str, ...] = ()
    """What a player said it could not do well."""
    cost: Cost
    evaluation_cost: Cost
    fine_tuning_flops: PositiveInt
    """Operations of fine-tuning one model from the base: the unit of relative cost."""
    provenance: Provenance

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.status == "ok") != (self.accuracy is not None):
            raise ValueError("a record has accuracies exactly when its status is ok")
        if self.accuracy and any({*split} != {*self.tasks} for split in (self.accuracy.validation, self.accuracy.test)):
            raise ValueError(f"accuracies are of exactly the tasks {', '.join(self.tasks)}, on both splits")
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it has accuracies of."""
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
    def relative_cost(self) -> float:
        """The player's operations / operations of fine-tuning one model from the base."""
        return self.cost.flops / self.fine_tuning_flops


def identify(parts: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of what identifies a play."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def path_of(record: Record, root: Path) -> Path:
    """Where a record lives: readable folders, and the first digits of the id to keep names apart."""
    *folders, what = map(_slug, record.place)
    return root.joinpath(_slug(record.suite), *folders, f"{what}.s{record.seed}.{record.id[:_DIGITS]}.json")


def _slug(spelling: str, most: int = 80) -> str:
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", spelling).strip("_")[:most]


def write(record: Record, root: Path) -> Path:
    """Write a record atomically: a reader, or a kill -9, sees the whole file or none.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind and no other record is touched.
    """
    path = path_of(record, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, record_text.to_text(record.model_dump(mode="json")))
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with the mode that the umask leaves, as for any other new file.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    # Not tempfile, whose files only their owner may read: boards and records are there to be shared.
    scratch = path.with_name(f".{path.name[:60]}.{secrets.token_hex(8)}.tmp")
    try:
        with scratch.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def read(path: Path) -> Record:
    """Read one record, of whichever game and of any version.

    Raises:
        BadRecord: it is not JSON, was edited, or does not fit the schema; the message names the file and the field.
    """
    try:
        fields = record_text.from_text(path.read_bytes())
        return games.record_type(fields.get("track", "protection")).model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRecord(path, f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None
    except UnknownName as error:
        raise BadRecord(path, f"track: {error}") from None
    except ValueError as error:
        raise BadRecord(path, str(error)) from None


def read_all(root: Path) -> Iterator[Record]:
    """Every record below a folder, in the order of their ids.

    Raises:
        BadRecord: a file is damaged; the message names it.
    """
    return iter(sorted((read(path) for path in files(root)), key=lambda record: record.id))


def adopt(ids: Collection[str], source: Path, root: Path) -> int:
    """Copy to ``root`` the records of these ids that another folder has and it has not; how many.

    Raises:
        BadRecord: one of them is damaged; the message names it.
    """
    wanted = {id_[:_DIGITS] for id_ in ids}
    named = (path for path in files(source) if path.stem.rpartition(".")[2] in wanted)
    new = [record for record in map(read, named) if record.id in ids and not path_of(record, root).exists()]
    for record in new:
        write(record, root)
    return len(new)


def files(root: Path) -> list[Path]:
    """The record files below a folder; hidden files and folders hold scratch."""
    paths = (p for p in root.rglob("*.json") if not any(part.startswith(".") for part in p.relative_to(root).parts))
    return sorted(paths)
