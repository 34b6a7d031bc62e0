"""A game is a folder on each side: a third one is played, scored, kept and shown, and no other file knows of it."""

import json
import subprocess
import sys
from importlib import import_module
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from mergearena.bench.cli.main import app
from mergearena.bench.errors import BadRecord
from mergearena.bench.games import archive
from mergearena.bench.games.game import games
from mergearena.bench.games.grid import Options
from mergearena.bench.players.registry import registry
from mergearena.bench.records.official import EXAMPLES, KEY
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.run import run
from mergearena.leaderboard.archive import publish
from mergearena.leaderboard.board.build import build, schema_json, to_json
from mergearena.leaderboard.board.games import board_of
from mergearena.leaderboard.board.place import place
from mergearena.leaderboard.page.pictures import specifications
from mergearena.leaderboard.page.render import render
from paths import ROOT
from worlds import world

SUITE = "tiny_suite:TinySuite"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local executor's limits are Linux's")


@pytest.fixture(scope="module", autouse=True)
def toy():
    """The game is there within this module, as if it were installed."""
    with registry.restored(), games.added(import_module("games.toy.game").GAME):
        yield
    for name in [name for name in sys.modules if name.startswith("games.toy")]:
        del sys.modules[name]


def options(**changes):
    fields = {
        "track": "toy",
        "suite": SUITE,
        "preset": "quick",
        "defenses": (),
        "attacks": (),
        "matches": (),
        "malicious": 1,
        "tier": "labelled",
        "seeds": (),
        "examples": EXAMPLES,
        "key": KEY,
    }
    return Options(**fields | changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def records(toy, root):
    """Of the real runner: two painters met by two erasers, and by one that fails."""
    plays = games.find("toy").plan(options(defenses=("water", "solvent", "broken")))
    limits = Limits(seconds=60.0, memory_gib=4.0)
    return run(plays, root, jobs=1, limits=limits).records


@pytest.fixture(scope="module")
def board(records):
    return build(records)


def printed(part):
    console = Console(file=StringIO(), width=120)
    console.print(part)
    return console.file.getvalue()


def test_it_is_played_and_judged_by_the_runner(records):
    dirt = {(r.attack, r.defense): r.dirt for r in records if r.status == "ok"}
    assert len(records) == 8
    assert {r.reason for r in records if r.status != "ok"} == {"ValueError: no water"}
    assert {r.defense for r in records if r.status != "ok"} == {"broken"}
    for painter in ("spray", "spray(strength=0.1)"):
        assert dirt[painter, "water"] == pytest.approx(dirt[painter, None])
    assert dirt["spray", "solvent"] < dirt["spray", "water"], "half of the noise is gone"
    assert dirt["spray", None] > dirt["spray(strength=0.1)", None]


def test_its_records_are_read_as_what_they_were(records, root):
    assert {r.id: r for r in archive.read_all(root)} == {r.id: r for r in records}
    assert all(type(r).__module__ == "games.toy.play" for r in archive.read_all(root))


def test_its_board_has_its_rows_beside_those_of_other_games(records, board):
    (suite,) = board.games["toy"]
    side = board_of("toy")
    assert board.of(side.part) == (suite,)
    assert [row.defense for row in suite.erasers] == ["solvent", "water", "broken"]
    assert suite.erasers[2].worst is None
    assert [(f.defense, f.match) for f in suite.failures] == [("broken", "a+b")] * 2
    both = build([*records, *world()])
    assert both.games["toy"] == board.games["toy"]
    assert both.games["protection"] == build(world()).games["protection"]


def test_the_json_has_a_key_for_it_and_no_other_board_has_one(board):
    read = json.loads(to_json(board))
    assert [row["defense"] for row in read["toy"][0]["erasers"]] == ["solvent", "water", "broken"]
    assert type(board).model_validate(read) == board
    assert "toy" not in json.loads(to_json(build(world())))
    assert "toy" not in json.loads(schema_json())["properties"]


def test_page_pictures_and_terminal_show_it(board):
    page = render(board)
    assert '<section class="board" id="toy/tiny_suite-tinysuite"' in page
    assert '<a href="#toy">Clean walls</a>' in page
    assert "How far a model is from the clean one." in page
    worst = {row.defense: row.worst for row in board.games["toy"][0].erasers}
    for name in ("solvent", "water"):
        share = f"{100 * worst[name]:.1f}"
        assert f'<code>{name}</code></th><td class="number">{share}</td>' in page
        assert share in printed(board_of("toy").terminal(board.games["toy"][0]))
    assert specifications(board).keys() == {"plots/tiny_suite-tinysuite-dirt.png"}


def test_a_player_of_it_is_told_its_place(board):
    entry = SimpleNamespace(track="toy", table="erasers", spelling="water")
    worst = {row.defense: row.worst for row in board.games["toy"][0].erasers}
    assert place(entry, board, None) == f"water leaves {worst['water']:.1%}: place 2 of 2 among those played along"
    assert place(entry, board, build(world())).endswith("among those played along")
    assert place(entry, board, board).endswith("on the committed board")


def test_the_command_line_lists_and_plays_it(records, root, tmp_path, capsys):
    out = tmp_path / "toy.json"
    command = ["run", "--track", "toy", "--suite", SUITE]
    app([*command, "--records", str(root), "--out", str(out)], standalone_mode=False)
    said = capsys.readouterr().out
    assert "0 plays played, 6 reused" in said
    assert "clean walls" in said
    assert [row["defense"] for row in json.loads(out.read_text())["toy"][0]["erasers"]] == ["solvent", "water"]
    app(["list", "tracks"], standalone_mode=False)
    assert "toy: attacks paint a model" in capsys.readouterr().out


def test_its_records_do_not_become_official(root, tmp_path):
    problems = [problem.what for problem in publish.plan([root], tmp_path).problems]
    assert problems.count("'toy' is no game of this project") == 8


def test_without_it_its_records_say_what_is_missing(records, root, monkeypatch):
    monkeypatch.setattr(games, "_found", {name: game for name, game in games._found.items() if name != "toy"})
    with pytest.raises(BadRecord, match="unknown track 'toy'; there are: protection, backdoor"):
        list(archive.read_all(root))


def test_no_file_beside_its_own_names_it():
    grep = ["git", "grep", "-lE", r"games\.toy|games/toy|[\"']toy[\"'].*(track|game)|track.*[\"']toy[\"']"]
    found = subprocess.run([*grep, "--", "*.py", "*.toml", "*.jinja"], cwd=ROOT, capture_output=True, text=True)
    assert all(name.startswith("tests/games/") for name in found.stdout.splitlines())
