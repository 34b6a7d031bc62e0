"""Records -> board: a pure function. The same records give the same bytes, in any order, on any machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import jsonschema

from mergearena.bench.games import backdoor, protection
from mergearena.bench.games.statistics import group
from mergearena.bench.records.record import Record
from mergearena.leaderboard.archive.submission import Submission
from mergearena.leaderboard.backdoor.rows import backdoor_board
from mergearena.leaderboard.board.leaderboard import Leaderboard
from mergearena.leaderboard.board.parts import SubmissionPart
from mergearena.leaderboard.board.players import described
from mergearena.leaderboard.page.render import render
from mergearena.leaderboard.protection.rows import suite_board

SCHEMA = Path(__file__).parents[1] / "schema.json"


def build(records: Iterable[Record], submissions: Iterable[Submission] = ()) -> Leaderboard:
    """The board of these records, some of which came with submissions."""
    ordered = sorted(records, key=lambda r: r.id)
    protected = group((r for r in ordered if isinstance(r, protection.Record)), lambda r: r.suite)
    merged = group((r for r in ordered if isinstance(r, backdoor.Record)), lambda r: r.suite)
    return Leaderboard(
        protection=tuple(suite_board(name, protected[name]) for name in sorted(protected)),
        backdoor=tuple(backdoor_board(name, merged[name]) for name in sorted(merged)),
        players=described(ordered),
        submissions=tuple(_submission(s) for s in sorted(submissions, key=lambda s: s.name)),
    )


def _submission(submission: Submission) -> SubmissionPart:
    shared = submission.model_dump(include=SubmissionPart.model_fields.keys() - {"code"})
    return SubmissionPart(**shared, code=submission.code.sha256 if submission.code else None)


def to_json(board: Leaderboard) -> str:
    """The board's text, checked against the committed schema.

    Raises:
        jsonschema.ValidationError: the board does not fit the schema.
    """
    data = board.model_dump(mode="json")
    jsonschema.validate(data, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def texts(board: Leaderboard) -> dict[str, str]:
    """File name -> text, of everything that a committed board is made into."""
    return {"leaderboard.json": to_json(board), "index.html": render(board)}


def schema_json() -> str:
    """The JSON Schema of the board, as committed."""
    return json.dumps(Leaderboard.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_schema() -> None:
    """Write ``schema.json`` anew, after a change of the data model."""
    SCHEMA.write_text(schema_json(), encoding="utf-8")
