"""The house: who may import whom, checked on a copy in which imports are planted; and how large its rooms are."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from paths import ROOT

FOLDERS = ("attacks", "bench", "defenses", "leaderboard")
METHODS = ("attacks/", "defenses/")
"""Folders of methods have a module per method, as many as there are."""
SOURCES = [path for folder in (*FOLDERS, "mergearena") for path in sorted((ROOT / folder).rglob("*.py"))]
SOURCES = [path for path in SOURCES if "submissions" not in path.parts]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The sources as one package."""
    root = tmp_path_factory.mktemp("house")
    for path in SOURCES:
        inner = path.relative_to(ROOT)
        target = root / (inner if inner.parts[0] == "mergearena" else Path("mergearena") / inner)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def broken(root):
    """The names of the broken contracts."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "pyproject.toml", "--no-logo", "--no-cache"],
        cwd=root,
        env=os.environ | {"COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = (line for line in done.stdout.splitlines() if line.endswith(" BROKEN"))
    found = {line.removesuffix(" BROKEN") for line in lines}
    assert bool(found) == bool(done.returncode), done.stdout + done.stderr
    return found


def contracts():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_every_import_keeps_the_contracts(copied):
    assert broken(copied) == set()


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("attacks/merge/ties.py", "from mergearena.defenses.protect import params", "floors"),
        ("defenses/protect/params.py", "from mergearena.attacks.merge import ties", "floors"),
        ("bench/merging/kernels.py", "from mergearena.bench import suites", "floors"),
        ("bench/study/sweep.py", "from mergearena.leaderboard.board import build", "board"),
        ("bench/games/protection/plan.py", "from mergearena.bench.games.backdoor import plan as other", "games"),
        ("leaderboard/protection/rows.py", "from mergearena.leaderboard.backdoor import rows", "boards"),
        ("leaderboard/charts/palette.py", "from mergearena.leaderboard.page import render", "circles"),
    ],
)
def test_a_planted_import_breaks_its_contract(copied, file, line, contract):
    path = copied / "mergearena" / file
    text = path.read_text()
    path.write_text(f"{text}\n{line}\n")
    try:
        found = broken(copied)
    finally:
        path.write_text(text)
    assert {c["id"]: c["name"] for c in contracts()}[contract] in found


def test_every_room_has_a_floor_and_there_are_eleven_at_most():
    (floors,) = (c["layers"] for c in contracts() if c["id"] == "floors")
    named = {room.strip() for floor in floors for room in floor.split("|")}
    rooms = {f"bench.{path.stem}" for path in (ROOT / "bench").iterdir() if (path / "__init__.py").exists()}
    rooms |= {f"bench.{path.stem}" for path in (ROOT / "bench").glob("*.py") if path.stem != "__init__"}
    assert named == rooms | {"attacks", "defenses", "leaderboard"}
    assert len(floors) <= 11


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_two_ideas(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250


def test_no_package_has_more_modules_than_can_be_seen_at_once():
    counted = {}
    for path in SOURCES:
        folder = path.parent.relative_to(ROOT).as_posix()
        if path.name != "__init__.py" and not f"{folder}/".startswith(METHODS):
            counted[folder] = counted.get(folder, 0) + 1
    assert {folder: count for folder, count in counted.items() if count > 13} == {}
