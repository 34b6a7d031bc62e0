"""A submission is one folder, written whole or not at all, whose every file is named with its hash."""

import json

import pytest

from mergearena.bench.files.hashing import sha256
from mergearena.bench.games import archive
from mergearena.leaderboard.archive.submission import BadSubmission, read_submission, write_submission
from record_factory import NAIVE, make_record

FIELDS = {
    "kind": "defense",
    "name": "shuffle",
    "authors": ("A. Uthor",),
    "paper": "",
    "players": ("shuffle", "shuffle(share=0.5)"),
    "config": {"share": 0.5},
}


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "shuffle.py"
    path.write_text("# the method\n")
    return path


def test_what_is_written_is_read_and_every_file_is_hashed(tmp_path, code):
    measured = [make_record(defense="shuffle", seed=seed) for seed in range(3)]
    folder = write_submission(tmp_path / "submissions", **FIELDS, records=measured, code=code)
    found = read_submission(folder)
    assert {name: getattr(found, name) for name in FIELDS} == FIELDS
    assert found.code.sha256 == sha256(folder / "shuffle.py") == sha256(code)
    assert {r.id for r in archive.read_all(folder / "records")} == {r.id for r in measured}
    assert {path: sha256(folder / "records" / path) for path in found.records} == found.records
    assert len(found.records) == 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "../up"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"kind": "merge"}, "kind"),
        ({"authors": ()}, "auth"),
    ],
)
def test_a_bad_field_is_named_and_leaves_nothing_behind(tmp_path, code, changes, field):
    parent = tmp_path / "a" / "submissions"
    with pytest.raises(BadSubmission, match=field):
        write_submission(parent, **FIELDS | changes, records=[make_record()], code=code)
    assert {path.name for path in tmp_path.rglob("*")} == {"shuffle.py"}


def test_a_submission_is_never_overwritten(tmp_path, code):
    folder = write_submission(tmp_path, **FIELDS, records=[make_record()], code=code)
    before = (folder / "submission.json").read_bytes()
    with pytest.raises(BadSubmission, match="choose another"):
        write_submission(tmp_path, **FIELDS, records=[], code=code)
    assert (folder / "submission.json").read_bytes() == before


def test_a_submission_that_is_no_submission_is_named(tmp_path):
    with pytest.raises(BadSubmission, match="there is none"):
        read_submission(tmp_path)
    (tmp_path / "submission.json").write_text("{")
    with pytest.raises(BadSubmission, match="not JSON"):
        read_submission(tmp_path)
    (tmp_path / "submission.json").write_text(json.dumps({"kind": "defense"}))
    with pytest.raises(BadSubmission, match=r"submission\.json: name"):
        read_submission(tmp_path)


def test_what_counts_is_spelled_as_submitted_and_played_by_the_submitted_code(tmp_path, code):
    found = read_submission(write_submission(tmp_path, **FIELDS, records=[], code=code))

    def record(source, **changes):
        made = make_record(**changes)
        return made.model_copy(update={"provenance": made.provenance.model_copy(update={"code": {"shuffle": source}})})

    assert found.counts(record(sha256(code), defense="shuffle"))
    assert found.counts(record(sha256(code), defense="shuffle", attack=None))
    assert not found.counts(record("0" * 64, defense="shuffle"))
    assert not found.counts(record(sha256(code)))  # none would move what every defense is measured against


def test_what_an_evaluation_is_measured_on_does_not_count(tmp_path):
    fields = FIELDS | {"kind": "evaluation", "players": (NAIVE,)}
    found = read_submission(write_submission(tmp_path, **fields, records=[]))
    assert found.counts(make_record(defense="params"))
    assert not found.counts(make_record(defense="params", attack=None))
    assert not found.counts(make_record(defense="params", attack="identity > average"))
