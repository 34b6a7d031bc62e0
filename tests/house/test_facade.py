"""What a notebook is offered: the same numbers as a run's, and one clear error for each mistake."""

import json
import subprocess
import sys

import pytest
import torch

import mergearena
from mergearena.bench.errors import ArenaError, BadCheckpoint, UnknownName
from mergearena.bench.games import archive
from paths import ROOT

SUITE = "tiny_suite:TinySuite"
ATTACKS = ("identity > average", "weight-matching > task-arithmetic > finetune(steps=2)")


def test_everything_that_is_offered_is_there_and_documented():
    for name in mergearena.__all__:
        assert getattr(mergearena, name).__doc__


def test_what_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'stranger'"):
        mergearena.stranger  # noqa: B018


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A run's table, and its records by attack."""
    root = tmp_path_factory.mktemp("records")
    table = mergearena.benchmark(["params"], ATTACKS, suite=SUITE, matches=["a+b"], seeds=[0], records=root, jobs=2)
    return table, {(r.defense, r.attack): r for r in archive.read_all(root)}


@pytest.mark.skipif(sys.platform != "linux", reason="players' processes need Linux")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_protected_and_attacked_victim_scores_as_in_a_run(played, attack):
    _, records = played
    suite = mergearena.load_suite(SUITE)
    released = mergearena.protect("params", "a", suite=SUITE)
    merged = mergearena.attack(attack, released, "a", ["b"], suite=SUITE)
    assert records["params", None].score.test == {"a": suite.score(released, "a", "test")}
    assert records["params", attack].score.test == {task: suite.score(merged, task, "test") for task in "ab"}


@pytest.mark.skipif(sys.platform != "linux", reason="players' processes need Linux")
def test_a_benchmark_is_a_table_of_what_was_asked_for(played):
    table, _ = played
    defenses = table[table["ranking"] == "defenses"]
    assert set(defenses["defense"]) == {"none", "params"}
    assert set(ATTACKS) <= set(table["attack"].dropna())
    assert set(table["game"]) == {"protection"}


def test_the_committed_board_is_a_table_of_its_json():
    written = json.loads((ROOT / "leaderboard" / "leaderboard.json").read_text())
    table = mergearena.board()
    for game, ranking in (("protection", "defenses"), ("protection", "attacks"), ("backdoor", "mergers")):
        rows = table[(table["game"] == game) & (table["ranking"] == ranking)]
        assert len(rows) == sum(len(suite[ranking]) for suite in written[game])
    (params,) = table[(table["suite"] == "embedded") & (table["defense"] == "params")].to_dict("records")
    (suite,) = (suite for suite in written["protection"] if suite["suite"] == "embedded")
    (row,) = (row for row in suite["defenses"] if row["defense"] == "params")
    assert params["resistance data-free"] == row["resistance"]["data-free"]["mean"]
    assert params["resistance data-free low"] == row["resistance"]["data-free"]["low"]
    assert params["fidelity"] == row["fidelity"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"protection": [{"suite": 7}]}', None])
def test_a_file_that_is_no_board_is_one_clear_error(tmp_path, text):
    path = tmp_path / "board.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ArenaError) as caught:
        mergearena.board(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_mistakes_are_named(tiny):
    released = tiny.finetuned("a")
    with pytest.raises(UnknownName, match="unknown task 'cats'"):
        mergearena.protect("params", "cats", suite=SUITE)
    with pytest.raises(UnknownName, match="did you mean 'params'"):
        mergearena.protect("parms", "a", suite=SUITE)
    with pytest.raises(UnknownName, match="unknown task 'dogs'"):
        mergearena.attack(ATTACKS[0], released, "a", ["dogs"], suite=SUITE)
    with pytest.raises(BadCheckpoint, match="the released model"):
        mergearena.attack(ATTACKS[0], {"w": torch.ones(2)}, "a", ["b"], suite=SUITE)
    with pytest.raises(UnknownName, match="unknown suite"):
        mergearena.load_suite("embeded")


def test_importing_it_brings_neither_torch_nor_the_methods(tmp_path):
    """It must cost nothing to ask for the version, or to import it before something else."""
    program = "import mergearena, sys; print([name for name in ('torch', 'mergearena.attacks') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
