"""Records -> board: a pure function. The same records give the same bytes, in any order, on any machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import jsonschema

from mergearena.bench.errors import ArenaError
from mergearena.bench.games.game import games
from mergearena.bench.games.statistics import group
from mergearena.bench.records.record import Record
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.leaderboard import Leaderboard, model_of
from mergearena.leaderboard.board.parts import SubmissionPart
from mergearena.leaderboard.board.players import described

SCHEMA = Path(__file__).parents[1] / "schema.json"


def build(records: Iterable[Record], submissions: Iterable[SubmissionPart] = ()) -> Leaderboard:
    """The board of these records, some of which came with submissions.

    It has this project's games, played or not, and whichever others were played: what else is installed does not show.

    Raises:
        ArenaError: records of one suite were played with different numbers of examples.
    """
    ordered = sorted(records, key=lambda r: r.id)
    played = group(ordered, lambda r: r.track)
    suites = {
        track: tuple(
            board_of(track).build(suite, _comparable(suite, here))
            for suite, here in sorted(group(of_game, lambda r: r.suite).items())
        )
        for track, of_game in played.items()
    }
    shared = {"players": described(ordered), "submissions": tuple(sorted(submissions, key=lambda s: s.name))}
    return model_of(played).model_validate({**suites, **shared})


def _comparable(suite: str, records: Sequence[Record]) -> Sequence[Record]:
    """The records of one suite in one game: players that may read more examples cannot be compared with others."""
    numbers = sorted({record.examples for record in records})
    if len(numbers) > 1:
        raise ArenaError(
            f"{suite}: the records of the {records[0].track} game are of k = {' and of k = '.join(map(str, numbers))} "
            "examples, which cannot be compared; build a board of one run, whose folder --records names"
        )
    return records


def to_json(board: Leaderboard) -> str:
    """The board's text, checked against the committed schema, or, if others' games were played, one with theirs.

    Raises:
        jsonschema.ValidationError: the board does not fit the schema.
    """
    data = board.model_dump(mode="json")
    committed = board.games.keys() <= {*games.own}
    jsonschema.validate(data, json.loads(SCHEMA.read_text(encoding="utf-8") if committed else _schema(type(board))))
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def schema_json() -> str:
    """The JSON Schema of the board of this project's games, as committed."""
    return _schema(model_of())


def _schema(model: type[Leaderboard]) -> str:
    return json.dumps(model.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_schema() -> None:
    """Write ``schema.json`` anew, after a change of the data model."""
    SCHEMA.write_text(schema_json(), encoding="utf-8")
