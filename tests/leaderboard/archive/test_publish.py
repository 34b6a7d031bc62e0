"""Official records change through publish alone, and only to records that may be official."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from mergearena.bench.cli.asked.run import RunOptions
from mergearena.bench.cli.commands.board import publish
from mergearena.bench.cli.commands.run import run
from mergearena.bench.errors import ArenaError
from mergearena.bench.games import archive
from mergearena.bench.records import places
from mergearena.bench.records.official import EXAMPLES, KEY
from mergearena.leaderboard.archive import publish as publishing
from mergearena.leaderboard.archive.check import check
from record_factory import make_record


def official(code=("none", "identity", "task-arithmetic"), **changes):
    """A record as a run of this project's players on the first suite makes it."""
    ours = publishing._code("embedded")
    record = make_record(**{"suite": "embedded", "key": KEY, "examples": EXAMPLES} | changes)
    provenance = record.provenance.model_copy(update={"code": {name: ours.get(name, "0" * 64) for name in code}})
    return record.model_copy(update={"provenance": provenance})


@pytest.fixture
def place(tmp_path):
    """A run's records and an empty board."""
    return tmp_path / "run", tmp_path / "leaderboard"


def told(source, board, confirmed=True, answer="", monkeypatch=None):
    """Whether it published, and what it said."""
    console = Console(file=io.StringIO(), width=200)
    if monkeypatch:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    done = publish([source], board, console, confirmed)
    return done, console.file.getvalue()


def test_published_records_are_official_and_the_board_is_built(place):
    source, board = place
    for seed in range(2):
        archive.write(official(seed=seed), source)
    done, text = told(source, board)
    assert done
    assert list(archive.read_all(board / "records")) == list(archive.read_all(source))
    assert check(board) == []
    assert "2" in next(line for line in text.splitlines() if "embedded" in line)


def test_what_changes_is_told_apart(place):
    source, board = place
    kept, before, after = official(seed=0), official(seed=1), official(seed=1, test=(0.1, 0.2))
    for record in (kept, before):
        archive.write(record, source)
    told(source, board)
    for record in (after, official(seed=2)):
        archive.write(record, source)
    changes = publishing.plan([source], board)
    assert (changes.added, changes.replaced, changes.unchanged) == ([official(seed=2)], [(before, after)], [kept])
    _, text = told(source, board)
    assert "another result" in text
    again = publishing.plan([source], board)
    assert (again.written, len(again.unchanged)) == ([], 3)


def test_records_that_are_not_published_again_stay(place, tmp_path):
    source, board = place
    archive.write(official(), source)
    told(source, board)
    archive.write(official(seed=1), tmp_path / "other")
    told(tmp_path / "other", board)
    assert len(places.files(board / "records")) == 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"code": ("none", "my-own")}, "'my-own' is no player of this project"),
        ({"key": "guessed"}, "its key is guessed"),
        ({"examples": 8}, "its examples is 8"),
        ({"round": 1}, "later evidence"),
        ({"suite": "tiny_suite:TinySuite"}, "no suite of this project"),
    ],
)
def test_one_record_that_may_not_be_official_stops_them_all(place, changes, problem):
    source, board = place
    archive.write(official(), source)
    path = archive.write(official(**{"seed": 9} | changes), source)
    done, text = told(source, board)
    assert not done
    assert f"{path}: " in text
    assert problem in text
    assert not board.exists()


def test_code_that_has_changed_since_is_refused(place):
    source, board = place
    record = official()
    record.provenance.code["identity"] = "0" * 64
    archive.write(record, source)
    assert "the code of 'identity' has changed since" in told(source, board)[1]


def test_a_damaged_record_is_refused(place):
    source, board = place
    path = archive.write(official(), source)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    done, text = told(source, board)
    assert not done
    assert "edited" in text
    assert not board.exists()


def test_records_of_other_models_are_refused(place):
    source, board = place
    archive.write(official(), source)
    told(source, board)
    other = official(seed=1)
    rebuilt = other.provenance.model_copy(update={"checkpoints": {"base": "2" * 64}})
    archive.write(other.model_copy(update={"provenance": rebuilt}), source)
    assert "its model 'base' is not that of" in told(source, board)[1]


@pytest.mark.parametrize(("answer", "written"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_it_asks_first(place, monkeypatch, answer, written):
    source, board = place
    archive.write(official(), source)
    done, _ = told(source, board, confirmed=False, answer=answer, monkeypatch=monkeypatch)
    assert done == written == bool(places.files(board / "records"))


def test_nothing_to_publish_is_an_error(place):
    with pytest.raises(ArenaError, match="no records there"):
        told(*place)


@pytest.mark.parametrize("option", ["records", "out"])
def test_a_run_never_writes_to_the_committed_board(option, tmp_path):
    paths = {"records": tmp_path, "out": tmp_path / "board.json", option: Path("leaderboard") / "records"}
    with pytest.raises(ArenaError, match="leaderboard publish"):
        run(RunOptions(**paths), Console(quiet=True))
