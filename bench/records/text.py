"""A record as text: its digest, its versions, and how text of an older version is read.

The digest tells a record that was edited or cut from one that is as the runner wrote it. It is a checksum, not a
signature: whether a result is true is found out by playing it again.

=======  ==============================================================
version  what changed
=======  ==============================================================
1        the first
2        ``digest``, the SHA-256 of everything else as canonical JSON
3        ``score`` and ``metric`` instead of ``accuracy``; players' code
         by identity; limits, executor, versions of suite and scoring;
         ``first_version``
=======  ==============================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

VERSION: Final = 3
"""What is written; every version up to it is read."""

Fields = dict[str, Any]

_RENAMED = {"accuracy": "score", "clean_own_accuracy": "clean_own_score"}


def _scored(fields: Fields) -> Fields:
    """Version 2 knew one score: accuracy."""
    renamed = {_RENAMED.get(name, name): value for name, value in fields.items()}
    return renamed | {"schema_version": 3, "metric": "accuracy"}


UPGRADES: dict[int, Callable[[Fields], Fields]] = {1: lambda fields: fields | {"schema_version": 2}, 2: _scored}
"""Version -> how its fields become those of the next one."""


def digest(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces, ASCII) of fields; one named ``digest`` is left out."""
    return canonical_sha256({name: value for name, value in fields.items() if name != "digest"})


def canonical_sha256(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def to_text(fields: Mapping[str, Any]) -> str:
    """The text of a record of the present version, with its digest."""
    text = json.dumps({**fields, "digest": digest(fields)}, indent=1, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def from_text(text: bytes) -> Fields:
    """The fields of a record, as those of the present version, once its digest was found to be right.

    Raises:
        ValueError: it is not a JSON object, was edited, or is of a version that is not known here.
    """
    fields = _parsed(text)
    version = fields.get("schema_version", 1)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(f"schema_version: {version!r} is not one of 1 to {VERSION}, which this MergeArena reads")
    if version > 1 and fields.pop("digest", None) != digest(fields):
        raise ValueError("digest: it does not fit the content, which was edited or cut after it was written")
    fields.setdefault("first_version", version)
    for older in range(version, VERSION):
        fields = UPGRADES[older](fields)
    return fields


def is_signed(text: bytes) -> bool:
    """Whether a record carries a digest: those of version 1 do not."""
    return "digest" in _parsed(text)


def _parsed(text: bytes) -> Fields:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file: it is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ValueError("the file: it is not a JSON object")
    return fields
