"""A submission: one folder that adds a defense, an attack or an evaluation to the board.

.. code-block:: text

    leaderboard/submissions/NAME/
        submission.json    who and what, and the SHA-256 of every other file
        METHOD.py          the code, where it is new
        records/           what was measured, as the runner wrote it

Adding the folder is all it takes: the board reads every folder below ``submissions/``, and no other file changes.
Whoever makes one calls::

    write_submission(parent: Path, *, kind: "defense" | "attack" | "evaluation", name: str, authors: Sequence[str],
                     paper: str, players: Sequence[str], config: Mapping[str, Any], records: Iterable[Record],
                     code: Path | None = None) -> Path
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mergearena.bench.errors import ArenaError
from mergearena.bench.files import atomic
from mergearena.bench.files.hashing import sha256
from mergearena.bench.games import archive
from mergearena.bench.players.identity import identity_of_file
from mergearena.bench.players.registry import NAMED_PATTERN
from mergearena.bench.records.fields import Strict
from mergearena.bench.records.record import Record
from mergearena.leaderboard.board.parts import SubmissionPart

FILE = "submission.json"
RECORDS = "records"
Kind = Literal["defense", "attack", "evaluation"]
Name = Annotated[str, Field(pattern=NAMED_PATTERN)]
"""A folder's name: that of what is submitted, or one like it."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BadSubmission(ArenaError):
    """A submission that cannot be read or written."""

    def __init__(self, path: Path, problem: str, remedy: str = "write the submission again") -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class Code(Strict):
    """The file that registers the submitted players."""

    file: Annotated[str, Field(pattern=r"^\w+\.py$")]
    """Its name, in the submission's folder."""
    sha256: Digest
    identity: Digest | None = None
    """By which records know its players; those of the first edition know them by the file's hash."""

    def players(self, record: Record) -> tuple[str, ...]:
        """Its players that took part in a record."""
        return tuple(name for name, code in record.provenance.code.items() if code in (self.sha256, self.identity))


class Submission(Strict):
    """What ``submission.json`` says."""

    schema_version: Literal[1] = 1
    kind: Kind
    """``defense``, ``attack``: a new player. ``evaluation``: known players, or merged weights, against known ones."""
    name: Name
    authors: Annotated[tuple[str, ...], Field(min_length=1)]
    paper: str
    """Where the method comes from; empty for none."""
    date: str
    """UTC, ISO 8601."""
    players: Annotated[tuple[str, ...], Field(min_length=1)]
    """What is submitted, as spelled on the command line: ``shuffle(share=0.5)``, ``weight-matching > halfway``."""
    config: dict[str, Any]
    """The options that it was measured with, defaults included."""
    code: Code | None
    """None for an evaluation."""
    records: dict[str, Digest]
    """Path below ``records/`` -> SHA-256 of the file."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "evaluation") != (self.code is None):
            raise ValueError("a defense or an attack comes with its code, an evaluation without")
        return self

    def part(self) -> SubmissionPart:
        """What the board says of it."""
        shared = self.model_dump(include=SubmissionPart.model_fields.keys() - {"code"})
        return SubmissionPart(**shared, code=self.code.sha256 if self.code else None)

    def counts(self, record: Record) -> bool:
        """Whether one of its records belongs on the board: a play of what is submitted, by the submitted code.

        The others are what it was measured against, which the board has official records of.
        """
        side = "defense" if self.kind == "defense" else "attack"
        if getattr(record, side) not in self.players:
            return False
        return self.code is None or bool(self.code.players(record))


def write_submission(
    parent: Path,
    *,
    kind: Kind,
    name: str,
    authors: Sequence[str],
    paper: str,
    players: Sequence[str],
    config: Mapping[str, Any],
    records: Iterable[Record],
    code: Path | None = None,
) -> Path:
    """Write the folder of a submission, whole or not at all.

    Args:
        parent: where the folder ``name`` is made, such as ``leaderboard/submissions``.
        kind: what it adds.
        name: what could be a player's name.
        authors: whoever answers for it.
        paper: where the method comes from; empty for none.
        players: what is submitted, as spelled on the command line.
        config: the options that it was measured with, JSON types.
        records: what was measured.
        code: the file that registers the players.

    Returns:
        The folder.

    Raises:
        BadSubmission: the folder exists already, or a field is not as :class:`Submission` wants it.
        OSError: it could not be written; nothing is left behind.
    """
    folder = parent / name
    fields = {
        "kind": kind,
        "name": name,
        "authors": tuple(authors),
        "paper": paper,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "players": tuple(players),
        "config": dict(config),
        "code": None if code is None else _code(code),
        "records": {},
    }
    submission = _validated(fields, folder)
    if folder.exists():
        raise BadSubmission(folder, "there is a submission of that name", "choose another, or delete the folder")
    scratch = parent / f".{name}.{secrets.token_hex(8)}.tmp"
    (scratch / RECORDS).mkdir(parents=True)
    try:
        if code is not None:
            shutil.copyfile(code, scratch / code.name)
        paths = sorted(archive.write(record, scratch / RECORDS) for record in records)
        hashes = {path.relative_to(scratch / RECORDS).as_posix(): sha256(path) for path in paths}
        written = submission.model_copy(update={"records": hashes}).model_dump(mode="json")
        atomic.write_text(scratch / FILE, json.dumps(written, indent=1, ensure_ascii=False) + "\n")
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _code(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256(path), "identity": identity_of_file(path)}


def read_submission(folder: Path) -> Submission:
    """What a folder's ``submission.json`` says; whether the other files fit it is :mod:`.survey`'s.

    Raises:
        BadSubmission: it is missing or does not fit :class:`Submission`; the message names the file and the field.
    """
    path = folder / FILE
    try:
        return _validated(json.loads(path.read_bytes()), path)
    except FileNotFoundError:
        raise BadSubmission(path, "there is none", "add it, or delete the folder") from None
    except (ValueError, RecursionError) as error:
        raise BadSubmission(path, f"it is not JSON ({error})") from None


def _validated(fields: Any, where: Path) -> Submission:
    try:
        return Submission.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise BadSubmission(where, f"{field}: {first['msg'].removeprefix('Value error, ')}") from None
