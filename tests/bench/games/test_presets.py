"""Presets are data: the grids are those that were agreed on, and a file that does not fit says where."""

import json
from pathlib import Path

import pytest

from mergearena.bench.errors import ArenaError, UnknownName
from mergearena.bench.games.backdoor import presets as backdoor
from mergearena.bench.games.presets import Grid, read_presets
from mergearena.bench.games.protection import presets as protection

AGREED = json.loads(Path(__file__).with_name("grids.json").read_text(encoding="utf-8"))
"""Game -> suite -> preset -> its grid, written out."""
GROWING = ("catalogue", "full")
"""Those that play every pipeline: new ones come in, and nothing else changes."""


@pytest.mark.parametrize("suite", ["embedded", "text"])
@pytest.mark.parametrize(("game", "side"), [(protection, "defenses"), (backdoor, "mergers")])
def test_every_grid_is_the_agreed_one(game, side, suite):
    agreed = AGREED[game.__name__.split(".")[-2]][suite]
    assert [*game.NAMES] == [*agreed]
    for name, grid in agreed.items():
        found = game.preset(name, suite, AGREED["tasks"][suite])
        assert [match.spelling for match in found.matches] == grid["matches"]
        assert [*found.seeds] == grid["seeds"]
        assert [*getattr(found, side)] == grid[side]
        assert [a for a in found.attacks if name not in GROWING or a in grid["attacks"]] == grid["attacks"]


def test_an_unknown_suite_pairs_every_task_with_the_next_one():
    found = protection.preset("standard", "other", ("x", "y", "z"))
    assert [match.spelling for match in found.matches] == ["x+y", "y+z", "z+x"]
    attacks = protection.preset("full", "other", ("x", "y", "z")).attacks
    assert [a for a in attacks if "donor=" in a] == ["donors-only(donor=0)", "donors-only(donor=1)"]


LISTS = """
[fragments]
long = "shuffle+turn"
[lists]
few = ["$long > ties", "none"]
many = ["@few", "moat"]
"""
GRIDS = """
[quick]
defenses = ["@many"]
attacks = ["plain"]
on.text = { seeds = [1, 2], without = ["moat"] }
"""


def read(folder, lists=LISTS, grids=GRIDS):
    (folder / "lists.toml").write_text(lists, encoding="utf-8")
    (folder / "grids.toml").write_text(grids, encoding="utf-8")
    return read_presets(folder, Grid)


def test_references_and_what_a_suite_changes(tmp_path):
    presets = read(tmp_path)
    assert presets.lists["many"] == ("shuffle+turn > ties", "none", "moat")
    anywhere, on_text = presets.grid("quick", "embedded"), presets.grid("quick", "text")
    assert (anywhere.seeds, anywhere.defenses) == ((0,), ("shuffle+turn > ties", "none", "moat"))
    assert (on_text.seeds, on_text.defenses) == ((1, 2), ("shuffle+turn > ties", "none"))
    with pytest.raises(UnknownName, match="unknown preset 'fast'; there are: quick"):
        presets.grid("fast", "text")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lists": "[lists"}, r"lists\.toml: it cannot be read as TOML"),
        ({"lists": LISTS.replace("$long", "$short")}, r"lists\.toml: few: .* names no fragment"),
        ({"lists": LISTS.replace("@few", "@more")}, r"lists\.toml: many: @more names no list above it"),
        ({"lists": LISTS.replace("@few", "@many")}, "names no list above it"),
        ({"grids": GRIDS.replace("attacks", "attakcs")}, r"grids\.toml: quick: attacks: Field required"),
        ({"grids": GRIDS.replace('["moat"]', '["mote"]')}, r"grids\.toml: quick: it leaves out 'mote', which it has"),
        ({"grids": GRIDS.replace("[1, 2]", '["x"]')}, r"grids\.toml: quick: seeds\.0: .*; correct the file"),
    ],
)
def test_a_file_that_does_not_fit_says_where(tmp_path, changes, problem):
    with pytest.raises(ArenaError, match=problem):
        read(tmp_path, **changes)
