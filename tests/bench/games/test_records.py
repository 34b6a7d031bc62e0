"""Records: complete or absent on disk, and refused by name when damaged."""

import errno
import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mergearena.bench.errors import BadRecord
from mergearena.bench.files import atomic
from mergearena.bench.files.hashing import identify
from mergearena.bench.games import archive
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.places import path_of
from mergearena.bench.records.text import UPGRADES, VERSION, digest, is_signed
from record_factory import make_record


@pytest.mark.parametrize(
    "record",
    [
        make_record(validation=(1 / 3, 0.1), test=(2 / 3, 0.2), task_vector_ratio=1e-17),
        make_record(attack=None, claims_function=True, logit_difference=1e-9),
        make_record(status="crashed", reason='killed: "signal 9"\n\t…', donors=("d", "e")),
    ],
)
def test_round_trip(tmp_path, record):
    path = archive.write(record, tmp_path)
    assert path == path_of(record, tmp_path)
    assert archive.read(path) == record
    assert list(archive.read_all(tmp_path)) == [record]


def test_read_all_orders_by_id_and_overwriting_keeps_one_file(tmp_path):
    some = [make_record(seed=seed) for seed in range(5)]
    for record in [*some, some[0]]:
        archive.write(record, tmp_path)
    assert list(archive.read_all(tmp_path)) == sorted(some, key=lambda r: r.id)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        record = archive.write(make_record(), tmp_path)
        other = tmp_path / "board.json"
        atomic.write_text(other, "{}")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (record, other)] == [mode, mode]


@pytest.fixture(params=["fsync", "replace"])
def fill_the_disk(request, monkeypatch):
    """A function after which writing, or else renaming, is refused."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, request.param, refuse)


def test_a_refused_write_leaves_nothing_behind(tmp_path, fill_the_disk):
    fill_the_disk()
    with pytest.raises(OSError, match="No space left"):
        archive.write(make_record(), tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_refused_write_keeps_the_record_that_was_there(tmp_path, fill_the_disk):
    record = make_record()
    path = archive.write(record, tmp_path)
    fill_the_disk()
    with pytest.raises(OSError, match="No space left"):
        archive.write(record.model_copy(update={"round": 1}), tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert archive.read(path) == record


def edited(change):
    """The text of a record with other content, and the digest that fits it."""
    fields = json.loads(make_record().model_dump_json())
    change(fields)
    return json.dumps(fields | {"digest": digest(fields)})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("not json", "the file"),
        ("", "the file"),
        ("[1]", "the file"),
        ("[" * 100_000, "the file"),
        (make_record().model_dump_json()[:-200], "the file"),
        (make_record().model_dump_json(), "digest"),
        (edited(lambda f: f.update(surprise=1)), "surprise"),
        (edited(lambda f: f.pop("seed")), "seed"),
        (edited(lambda f: f.update(schema_version=4)), "schema_version"),
        (edited(lambda f: f.update(schema_version="3")), "schema_version"),
        (edited(lambda f: f.update(track="chess")), "track"),
        (edited(lambda f: f.update(status="fine")), "status"),
        (edited(lambda f: f.update(fine_tuning_flops=0)), "fine_tuning_flops"),
        (edited(lambda f: f["score"]["test"].update(v=float("nan"))), "score.test.v"),
        (edited(lambda f: f["score"]["validation"].update(d=1.5)), "score.validation.d"),
        (edited(lambda f: f["score"]["test"].update(v="0.9 %")), "score.test.v"),
        (edited(lambda f: f["cost"].update(wall_seconds=float("inf"))), "cost.wall_seconds"),
    ],
)
def test_a_damaged_file_is_named_with_its_field(tmp_path, text, field):
    path = tmp_path / "damaged.json"
    path.write_text(text)
    with pytest.raises(BadRecord, match=f"^{re.escape(f'{path}: {field}: ')}.*run again"):
        archive.read(path)
    with pytest.raises(BadRecord, match=re.escape(str(path))):
        archive.read_all(tmp_path)


def test_editing_any_digit_of_a_record_is_found(tmp_path):
    path = archive.write(make_record(attack="ties(density=0.2)", task_vector_ratio=1.25), tmp_path)
    text = path.read_text()
    digits = [place for place, character in enumerate(text) if character.isdigit()]
    assert len(digits) > 100
    for place in digits:
        path.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
        with pytest.raises(BadRecord, match=re.escape(str(path))):
            archive.read(path)


def test_layout_and_order_of_keys_are_no_edit(tmp_path):
    record = make_record(warnings=("ünïcode",), task_vector_ratio=1e-17)
    path = archive.write(record, tmp_path)
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(fields.items()))))
    assert archive.read(path) == record


def test_records_of_version_1_which_have_no_digest_are_read(tmp_path):
    record = make_record()
    old = json.loads(record.model_dump_json()) | {"schema_version": 1}
    path = path_of(record, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(old, indent=1))
    assert archive.read(path) == record
    assert not is_signed(path.read_bytes())
    archive.write(archive.read(path), tmp_path)
    assert is_signed(path.read_bytes())
    assert archive.read(path) == record


def of_version_2(record):
    """The text of a record as the previous version wrote it, which knew less."""
    fields = json.loads(record.model_dump_json()) | {"schema_version": 2, "accuracy": record.score.model_dump()}
    for name in ("score", "metric", "first_version"):
        del fields[name]
    for name in ("seconds", "memory_gib", "executor", "suite_version", "scoring"):
        del fields["provenance"][name]
    return json.dumps(fields | {"digest": digest(fields)})


def test_a_record_of_an_earlier_version_is_read_and_known_as_made_by_earlier_code_wherever_it_goes(tmp_path):
    record = make_record()
    path = tmp_path / "old.json"
    path.write_text(of_version_2(record))
    read = archive.read(path)
    assert read.made_by_earlier_code
    assert read == record.model_copy(update={"first_version": 2})
    assert not record.made_by_earlier_code
    assert (read.provenance.seconds, read.provenance.executor, read.provenance.suite_version) == (None, "local", "1")
    copy = archive.write(read, tmp_path / "copy")
    assert archive.read(copy) == read


def test_a_record_of_version_1_is_made_by_earlier_code(tmp_path):
    path = tmp_path / "old.json"
    fields = json.loads(of_version_2(make_record())) | {"schema_version": 1}
    del fields["digest"]
    path.write_text(json.dumps(fields))
    assert archive.read(path).first_version == 1


def test_every_older_version_has_an_upgrade():
    assert sorted(UPGRADES) == list(range(1, VERSION))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"score": None}, "exactly when its status is ok"),
        ({"status": "failed", "score": make_record().score}, "exactly when its status is ok"),
        ({"tier": None}, "names its attack and tier"),
        ({"kind": "release"}, "names its attack and tier"),
        ({"score": make_record(donors=("e",)).score}, "exactly the tasks v, d"),
    ],
)
def test_inconsistent_fields_are_refused(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        make_record(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_cost_is_finite(value):
    with pytest.raises(ValidationError):
        Cost(wall_seconds=value)


names = st.text(min_size=1, max_size=150)


@settings(max_examples=40)
@given(defense=names, attack=names, suite=names)
def test_paths_have_no_odd_characters_and_stay_below_the_root(tmp_path_factory, defense, attack, suite):
    root = tmp_path_factory.getbasetemp()
    record = make_record(defense=defense, attack=attack, suite=suite)
    path = path_of(record, root)
    assert re.fullmatch(r"[A-Za-z0-9.+=_/-]+", str(path.relative_to(root)))
    assert all(len(part) <= 120 for part in path.relative_to(root).parts)
    assert path.suffix == ".json"


def test_different_plays_have_different_paths(tmp_path):
    long = "params(scaling=symmetric)+" * 9
    some = [
        make_record(),
        make_record(seed=1),
        make_record(key="another"),
        make_record(round=1),
        make_record(attack=None),
        make_record(attack="ties(density=0.2)"),
        make_record(attack="ties(density=0,2)"),  # the same once odd characters are gone
        make_record(defense=f"{long}none"),
        make_record(defense=f"{long}params"),  # the same once cut
        make_record(donors=("d", "e")),
    ]
    assert len({path_of(record, tmp_path) for record in some}) == len(some)


def test_adopt_copies_what_is_asked_for_and_missing(tmp_path):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    first, second, third = (make_record(seed=seed) for seed in (1, 2, 3))
    for record in (first, second, third):
        archive.write(record, theirs)
    kept = archive.write(first.model_copy(update={"warnings": ("mine",)}), ours)
    before = kept.read_bytes()
    assert archive.adopt({first.id, second.id, "0" * 64}, theirs, ours) == 1
    assert {record.id for record in archive.read_all(ours)} == {first.id, second.id}
    assert kept.read_bytes() == before, "what is there stays as it is"
    assert archive.adopt({first.id}, tmp_path / "nowhere", ours) == 0


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()), st.randoms())
def test_identify_is_independent_of_the_order_of_keys(parts, random):
    keys = list(parts)
    random.shuffle(keys)
    assert identify({key: parts[key] for key in keys}) == identify(parts)


@given(st.dictionaries(st.text(), st.integers()), st.dictionaries(st.text(), st.integers()))
def test_identify_tells_different_parts_apart(one, other):
    assert (identify(one) == identify(other)) == (one == other)
