"""Records on the disk: written whole, read as their game's own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import ValidationError

from mergearena.bench.errors import BadRecord, UnknownName
from mergearena.bench.files.atomic import write_text
from mergearena.bench.games.game import games
from mergearena.bench.records import text
from mergearena.bench.records.places import DIGITS, files, path_of
from mergearena.bench.records.record import Record

_FIRST = "protection"
"""The game of records from before there was another, which do not name it."""


def write(record: Record, root: Path) -> Path:
    """Write a record atomically: a reader, or a kill -9, sees the whole file or none.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind and no other record is touched.
    """
    path = path_of(record, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.to_text(record.model_dump(mode="json")))
    return path


def read(path: Path) -> Record:
    """Read one record, of whichever game and of any version.

    Raises:
        BadRecord: it is not JSON, was edited, or does not fit the schema; the message names the file and the field.
    """
    try:
        fields = text.from_text(path.read_bytes())
        return games.find(fields.get("track", _FIRST)).record.model_validate(fields)
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
    wanted = {id_[:DIGITS] for id_ in ids}
    named = (path for path in files(source) if path.stem.rpartition(".")[2] in wanted)
    new = [record for record in map(read, named) if record.id in ids and not path_of(record, root).exists()]
    for record in new:
        write(record, root)
    return len(new)
