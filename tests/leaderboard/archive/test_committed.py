"""The committed board: rebuilt from its folder to the same bytes, and every way to tamper with it has a line."""

import json
import os
import random
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from mergearena.bench.cli.commands.board import build_committed
from mergearena.bench.errors import ArenaError
from mergearena.bench.files.hashing import sha256
from mergearena.bench.games import archive
from mergearena.bench.records import places
from mergearena.leaderboard.archive.check import check
from mergearena.leaderboard.archive.submission import write_submission
from mergearena.leaderboard.archive.survey import survey
from mergearena.leaderboard.protection.parts import SuiteBoard
from paths import ROOT
from record_factory import NAIVE, make_record

BASELINE = {"attack": "base-only", "uses_victim": False, "test": (0.5, 0.3)}
OFFICIAL = [
    *(make_record(attack=None, defense=defense, test=(0.95,)) for defense in ("none", "params")),
    make_record(**BASELINE),
    make_record(test=(0.9, 0.9)),
    make_record(defense="params", test=(0.6, 0.9), validation=(0.6, 0.9)),
]
QUIET = Console(quiet=True)


def played_with(code, player, **changes):
    """A record in whose play the player that a file registers took part."""
    record = make_record(**changes)
    provenance = record.provenance.model_copy(update={"code": {player: sha256(code)}})
    return record.model_copy(update={"provenance": provenance})


def submit(board, tmp_path, name, kind="attack", player="halfway", counted=(), others=()):
    code = tmp_path / f"{player}.py"
    code.write_text(f"# {player}\n")
    measured = [played_with(code, player, **changes) for changes in counted]
    return write_submission(
        board / "submissions",
        kind=kind,
        name=name,
        authors=["A. Uthor"],
        paper="",
        players=[player],
        config={},
        records=[*measured, *others],
        code=code,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    for record in OFFICIAL:
        archive.write(record, folder / "records")
    build_committed(folder, QUIET)
    return folder


@pytest.fixture
def board(built, tmp_path):
    """A board's folder with official records, built."""
    return shutil.copytree(built, tmp_path / "leaderboard")


def resistance(folder, defense="params"):
    found = survey(folder)
    assert found.problems == []
    (suite,) = found.board().of(SuiteBoard)
    return next(row.resistance["data-free"].mean for row in suite.defenses if row.defense == defense)


def only_problem(folder):
    (problem,) = check(folder)
    text = str(problem)
    assert "\n" not in text
    assert text.startswith(f"{problem.path}: ")
    assert problem.remedy
    return problem


def test_a_built_board_has_no_problem(board):
    assert check(board) == []


def test_editing_one_digit_of_a_record_is_named(board):
    path = places.files(board / "records")[0]
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    problem = only_problem(board)
    assert problem.path == path
    assert "edited" in problem.what
    with pytest.raises(ArenaError, match="edited"):
        build_committed(board, QUIET)


def test_an_edit_with_its_digest_taken_out_is_named(board):
    path = places.files(board / "records")[0]
    fields = json.loads(path.read_text()) | {"schema_version": 1}
    fields.pop("digest")
    path.write_text(json.dumps(fields))
    assert "no digest" in only_problem(board).what


def test_a_misplaced_record_is_named_with_its_place(board):
    path = places.files(board / "records")[0]
    moved = path.with_name("elsewhere.json")
    path.rename(moved)
    problem = only_problem(board)
    assert problem.path == moved
    assert str(path) in problem.remedy


def test_a_copied_record_is_named(board):
    path = places.files(board / "records")[0]
    shutil.copy(path, path.with_name("copy.json"))
    assert {problem.what.split(",")[0].split(" as ")[0] for problem in check(board)} == {
        "it is misplaced",
        "it is the same play",
    }


def test_stale_files_are_named(board):
    data, page = board / "leaderboard.json", board / "index.html"
    data.write_text(data.read_text().replace("0.9", "0.8", 1))
    page.unlink()
    assert {problem.path for problem in check(board)} == {data, page}


def test_records_without_a_rebuilt_board_make_it_stale(board):
    archive.write(make_record(defense="params", attack="identity > average"), board / "records")
    stale = {problem.path.relative_to(board).as_posix() for problem in check(board)}
    drawn = {f"plots/toy-{what}-against-cost.png" for what in ("resistance", "recovered")}
    assert stale == {"leaderboard.json", "index.html", *drawn}


def test_a_submission_is_merged_by_adding_its_folder(board, tmp_path):
    before = {path: path.read_bytes() for path in places.files(board / "records")}
    assert resistance(board) == pytest.approx(0.75)
    stronger = {"defense": "params", "attack": "halfway", "test": (0.8, 0.9)}
    submit(board, tmp_path, "halfway", counted=[stronger], others=[make_record(**BASELINE)])
    assert resistance(board) == pytest.approx(0.25)
    (part,) = survey(board).board().submissions
    assert (part.name, part.kind, part.authors, part.players) == ("halfway", "attack", ("A. Uthor",), ("halfway",))
    assert {path: path.read_bytes() for path in places.files(board / "records")} == before


def test_a_submitted_defense_is_ranked(board, tmp_path):
    code = {"player": "shuffle", "kind": "defense"}
    measured = [{"attack": None, "test": (0.95,)}, {"test": (0.5, 0.9)}]
    submit(board, tmp_path, "shuffle", **code, counted=[{"defense": "shuffle", **changes} for changes in measured])
    assert resistance(board, "shuffle") == 1


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_submission_never_raises_a_resistance(board, tmp_path, name):
    """Chosen on validation beside the first records it would win, and read lower on test."""
    submit(board, tmp_path, "m", player="m", counted=[{"defense": "params", "attack": "m", "test": (0.7, 0.9)}])
    assert resistance(board) == pytest.approx(0.5)
    weaker = {"defense": "params", "attack": name, "test": (0.5, 0.9), "validation": (0.99, 0.9)}
    elsewhere = weaker | {"seed": 5, "test": (0.5, 0.9)}
    unprotected = {"attack": name, "test": (1.0, 1.0)}
    submit(board, tmp_path, name, player=name, counted=[weaker, elsewhere, unprotected])
    assert resistance(board) == pytest.approx(0.5)


def edit_code(folder):
    return (folder / "halfway.py").write_text("# other\n") and folder / "halfway.py"


def edit_hash(folder):
    path = folder / "submission.json"
    path.write_text(path.read_text().replace('"sha256": "', '"sha256": "0'))
    return path


def rename(folder):
    return folder.rename(folder.with_name("other")) / "submission.json"


def drop_record(folder):
    (path,) = places.files(folder / "records")
    path.unlink()
    return path


def add_file(folder):
    path = folder / "records" / "more.json"
    path.write_text("{}")
    return path


def replace_record(folder):
    """A whole record with a digest that fits, but not the one that was submitted."""
    (path,) = places.files(folder / "records")
    archive.write(archive.read(path).model_copy(update={"warnings": ("better",)}), folder / "records")
    return path


@pytest.mark.parametrize("tamper", [edit_code, edit_hash, rename, drop_record, add_file, replace_record])
def test_a_submission_whose_files_do_not_fit_is_named(board, tmp_path, tamper):
    path = tamper(submit(board, tmp_path, "halfway", counted=[{"defense": "params", "attack": "halfway"}]))
    assert only_problem(board).path == path


def test_a_submitted_player_must_not_take_anothers_name(board, tmp_path):
    code = OFFICIAL[0].provenance.code
    (official,) = code
    submit(board, tmp_path, "impostor", player=official, counted=[{"defense": "params", "attack": official}])
    assert "has the name of" in only_problem(board).what


def test_the_same_play_twice_is_named(board, tmp_path):
    evaluation = {"kind": "evaluation", "authors": ["A. Uthor"], "paper": "", "players": [NAIVE], "config": {}}
    for name in ("one", "two"):
        again = [OFFICIAL[-1].model_copy(update={"id": "0" * 64})]
        folder = write_submission(board / "submissions", name=name, **evaluation, records=again)
    assert only_problem(board).path.is_relative_to(folder)


def test_scratch_is_no_submission(board):
    (board / "submissions" / ".half.tmp").mkdir(parents=True)
    assert check(board) == []


def test_the_same_records_give_the_same_bytes_whatever_order_locale_and_hashing(board, tmp_path):
    submit(board, tmp_path, "halfway", counted=[{"defense": "params", "attack": "halfway", "warnings": ("ü",)}])
    build_committed(board, QUIET)
    expected = {name: (board / name).read_bytes() for name in ("leaderboard.json", "index.html")}
    other = tmp_path / "other"
    paths = [path for path in board.rglob("*") if path.is_file() and path.name not in expected]
    random.Random(1).shuffle(paths)
    for path in paths:
        target = other / path.relative_to(board)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "mergearena.bench", "leaderboard", "build", "--board", str(other)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert {name: (other / name).read_bytes() for name in expected} == expected


def test_a_board_that_has_not_begun_has_no_problem(tmp_path):
    assert check(tmp_path) == []


def test_the_committed_board_has_no_problem():
    """What CI says of a pull request that adds a submission, edits a record or forgets to build."""
    folder = ROOT / "leaderboard"
    if not survey(folder).records:
        pytest.skip("no record is committed yet")
    assert [str(problem) for problem in check(folder)] == []
