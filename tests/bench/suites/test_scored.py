"""A suite says itself what is trained, scored and compared: the game of protection plays on one without classes."""

import sys

import pytest
import torch
import torch.nn.functional as F

from mergearena.attacks.recover.finetune import Finetune
from mergearena.bench.errors import ArenaError
from mergearena.bench.games import grid
from mergearena.bench.games import protocol as games_protocol
from mergearena.bench.games.backdoor.grid import planned
from mergearena.bench.games.protection import Match, plan
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.players.tier import Tier
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.run import run
from mergearena.bench.suites.classification import classification
from mergearena.leaderboard.board.build import build
from regression_suite import TOLERANCE, RegressionSuite

NAME = "regression_suite:RegressionSuite"
MERGE = "identity > task-arithmetic"
TUNED = f"{MERGE} > finetune(steps=3, batch_size=4)"
TAUGHT = f"{MERGE} > distill(steps=3, batch_size=4)"
CHOSEN = "identity > task-arithmetic(scale=chosen)"
CLASSES = "identity > fisher(examples=4)"


@pytest.fixture(scope="module")
def suite():
    return RegressionSuite()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the local executor's limits are Linux's")
    attacks = ["base-only", "donors-only", MERGE, TUNED, TAUGHT, CHOSEN, CLASSES]
    plays = plan(
        games_protocol.protocol(NAME, "ab", "k", examples=8),
        [Match(NAME, "a", ("b",))],
        (0,),
        [parse_defense("none"), parse_defense("params")],
        [parse_attack(a) for a in attacks],
    )
    limits = Limits(seconds=60, memory_gib=4)
    return run(plays, tmp_path_factory.mktemp("run"), jobs=2, limits=limits).records


def attack_on(records, defense, attack):
    (found,) = (r for r in records if (r.defense, r.attack) == (defense, attack))
    return found


def test_protection_plays_on_a_suite_without_classes(records, suite):
    assert {r.attack for r in records if r.status != "ok"} == {CLASSES}
    assert {r.metric for r in records} == {"within-tolerance"}
    plain, params = (attack_on(records, defense, None) for defense in ("none", "params"))
    assert plain.score.test == params.score.test == {"a": 1.0}  # what params does keeps the function
    assert plain.logit_difference == 0
    assert 0 < params.logit_difference < 1e-4
    base = next(r for r in records if r.attack == "base-only")
    assert base.score.test == {task: suite.score(suite.base(), task, "test") for task in "ab"}


def test_recoveries_train_by_the_suites_own_loss(records):
    for attack in (TUNED, TAUGHT):
        record = attack_on(records, "params", attack)
        assert record.cost.gradient_steps == 3
        assert record.score.test != attack_on(records, "params", MERGE).score.test
    assert attack_on(records, "params", TUNED).cost.labelled_examples == 16


def test_the_board_says_what_is_scored(records):
    (board,) = build(records).protection
    assert board.metric == "within-tolerance"


def test_who_needs_classes_says_so_in_one_line(records, suite):
    said = "the suite 'regression' has no classes (it is scored by within-tolerance)"
    assert said in (attack_on(records, "params", CLASSES).reason or "")
    asked = grid.Options(
        track="backdoor",
        suite=NAME,
        preset="quick",
        defenses=(),
        attacks=(),
        matches=(),
        malicious=1,
        tier="unlabelled",
        seeds=(),
        examples=8,
        key="k",
    )
    with pytest.raises(ArenaError) as error:
        planned(asked)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(ArenaError):
        classification(suite)


def test_finetuning_lowers_the_suites_loss(suite):
    examples = {task: suite.load(task, "train") for task in "ab"}
    view = AttackerView(
        suite=suite,
        base=suite.base(),
        tasks=("a", "b"),
        generator=torch.Generator().manual_seed(0),
        released=suite.finetuned("a"),
        victim="a",
        donors={"b": suite.finetuned("b")},
        tier=Tier.LABELLED,
        examples=examples,
    )
    tuned = Finetune(steps=20, lr=3e-3).recover(view.base, view)
    before, after = (sum(suite.assess(s, t, *examples[t]).loss for t in "ab") for s in (view.base, tuned))
    assert after < 0.8 * before


def test_score_and_distance_by_hand(suite):
    inputs, targets = suite.load("a", "test")
    left, right = suite.base(), suite.finetuned("a")
    model = suite.encoder()
    with torch.no_grad():
        outputs = suite.outputs(model, "a", inputs)
    near = sum(abs(float(o - t)) <= TOLERANCE for o, t in zip(outputs, targets, strict=True))
    assert suite.score(left, "a", "test") == near / len(targets)
    assert 0 < near < len(targets)
    expected = (outputs - targets).abs().max() / targets.abs().max()
    assert suite.distance(left, right, "a", inputs) == pytest.approx(expected.item(), rel=1e-5)
    assert suite.distance(right, right, "a", inputs) == 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_numbers_are_distilled_by_their_squared_distance_at_any_temperature(suite, temperature):
    s, t = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])
    assert suite.divergence(s, t, temperature).item() == pytest.approx(4.5)
    softened = temperature**2 * F.mse_loss(s / temperature, t / temperature)
    assert suite.divergence(s, t, temperature).item() == pytest.approx(softened.item())
