"""Later evidence is played or judged here, never believed, and lands on the board as a submission of its own."""

import json
import shutil
import sys

import pytest
import torch
from rich.console import Console

from mergearena.bench.cli.commands import evidence
from mergearena.bench.cli.commands import evidence as evidence_command
from mergearena.bench.errors import ArenaError, BadCheckpoint
from mergearena.bench.files import checkpoints
from mergearena.bench.games import archive
from mergearena.bench.games.protection import Match, plan
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protocol import protocol
from mergearena.bench.runner import run
from mergearena.bench.runner.executors.limits import Limits
from mergearena.leaderboard.archive.check import check
from mergearena.leaderboard.archive.claims import UNVERIFIED
from mergearena.leaderboard.archive.submission import BadSubmission
from mergearena.leaderboard.archive.survey import survey

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local executor's limits are Linux's")
SUITE, NAIVE, ALIGNED = "tiny_suite:TinySuite", "identity > average", "weight-matching > average"
CLAIM = {"name": "claim", "authors": ["A. Uthor"], "suite": SUITE, "defense": "params"}
WEIGHTS = {"file": "merged.safetensors", "match": "a+b", "seed": 0}
QUIET = Console(quiet=True)


def played(root, attacks):
    """The records of an ordinary run of params on a+b."""
    held = protocol(SUITE, "ab", "k", examples=8)
    pipelines = [parse_attack(attack) for attack in ("base-only", *attacks)]
    plays = plan(held, [Match(SUITE, "a", ("b",))], [0], [parse_defense("params")], pipelines)
    return run.run(plays, root, jobs=1, limits=Limits()).records


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    played(folder / "records", [NAIVE])
    return folder


@pytest.fixture
def board(official, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence_command, "PLAYED", tmp_path / "played")
    return shutil.copytree(official, tmp_path / "board")


def add(board, **fields):
    path = board.parent / "claim.json"
    path.write_text(json.dumps(CLAIM | fields))
    evidence.add([path], board, QUIET)
    return list(archive.read_all(board / "submissions" / "claim" / "records"))


def test_a_pipeline_is_played_as_by_an_ordinary_run_and_counts_as_later_evidence(board, tmp_path):
    (found,) = add(board, attack="weight-matching  >  average")
    expected = next(r for r in played(tmp_path / "run", [ALIGNED]) if (r.defense, r.attack) == ("params", ALIGNED))
    assert (found.id, found.score, found.key) == (expected.id, expected.score, "k")
    assert found.round == 1
    assert check(board) == []
    assert found.id in {record.id for record in survey(board).records.values()}


def test_merged_weights_are_judged_here_and_marked(board, tiny):
    a, b = tiny.finetuned("a"), tiny.finetuned("b")
    checkpoints.save({key: (a[key] + b[key]) / 2 for key in a}, board.parent / "merged.safetensors")
    (found,) = add(board, defense="none", weights=[WEIGHTS], tier="data-free", flops=7)
    naive = next(r for r in archive.read_all(board / "records") if (r.defense, r.attack) == ("none", NAIVE))
    assert found.score == naive.score
    assert (found.attack, found.round, found.cost.flops) == ("weights(claim)", 1, 7)
    assert found.warnings == (UNVERIFIED,)
    assert check(board) == []


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "either an attack or weights"),
        ({"weights": [WEIGHTS]}, "tier and flops"),
        ({"attack": NAIVE, "tier": "data-free", "flops": 1}, "an attack has its own"),
        ({"attack": NAIVE}, "already"),
        ({"attack": "identity > unheard-of"}, "unknown"),
        ({"attack": ALIGNED, "defense": "moat"}, "no attack on moat"),
        ({"weights": [WEIGHTS | {"match": "b+a"}], "tier": "data-free", "flops": 1}, "not evaluated on b[+]a, seed 0"),
        ({"weights": [WEIGHTS], "tier": "data-free", "flops": 1}, "no such checkpoint"),
        ({"attack": ALIGNED, "name": "../claim"}, "name"),
        ({"attack": ALIGNED, "score": 1.0}, "score"),
    ],
)
def test_a_claim_that_does_not_fit_is_refused_and_adds_nothing(board, fields, problem):
    with pytest.raises(ArenaError, match=problem):
        add(board, **fields)
    assert not (board / "submissions").exists()


def test_weights_of_another_architecture_are_refused(board):
    checkpoints.save({"proj": torch.zeros(2)}, board.parent / "merged.safetensors")
    with pytest.raises(BadCheckpoint, match="left out"):
        add(board, weights=[WEIGHTS], tier="data-free", flops=1)


def test_a_claim_against_a_defense_whose_code_has_changed_is_refused(board):
    release = next(r for r in archive.read_all(board / "records") if (r.defense, r.kind) == ("params", "release"))
    older = release.provenance.model_copy(update={"code": {"params": "0" * 64}})
    archive.write(release.model_copy(update={"provenance": older}), board / "records")
    with pytest.raises(ArenaError, match="the code of params has changed"):
        add(board, attack=ALIGNED)


def test_a_claim_is_added_once(board):
    add(board, attack=ALIGNED)
    with pytest.raises(ArenaError, match="choose another"):
        add(board, attack=ALIGNED)
    with pytest.raises(ArenaError, match="already"):
        add(board, attack=ALIGNED, name="again")


def test_a_claim_that_is_not_json_is_named(tmp_path):
    (tmp_path / "claim.json").write_text("{")
    with pytest.raises(BadSubmission, match=r"claim\.json: it is not JSON"):
        evidence.add([tmp_path / "claim.json"], tmp_path, QUIET)
