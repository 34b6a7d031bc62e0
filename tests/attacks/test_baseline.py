"""Baselines: what they touch, and what they reduce to."""

import pytest
import torch

from mergearena.attacks.baseline import merge_donors
from mergearena.attacks.merge.adamerging import AdaMerging
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.attacks.recover.distill import Distill
from mergearena.attacks.recover.finetune import Finetune
from mergearena.bench.errors import TierViolation
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.learning.coefficients import entropy
from mergearena.bench.players.tier import Tier

FLOORS = ["base-only", "donors-only", "adamerge-donors(steps=1)", "finetune-base(steps=1)", "finetune-donors(steps=1)"]
EXTRACTIONS = ["distill-base(steps=1)", "distill-donors(steps=1)"]


class Untouchable(dict):
    """A released model that must not be looked at."""

    def __getitem__(self, key):
        raise AssertionError(f"the victim's {key!r} was read")

    __iter__ = items = values = keys = __getitem__


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_never_looks_at_the_victim(attacker, name):
    pipeline = parse_attack(name)
    view = attacker(Untouchable(), tier=pipeline.tier)
    state = pipeline.run(view)
    assert not pipeline.uses_victim
    assert not pipeline.extraction
    assert state.keys() == view.base.keys()


@pytest.mark.parametrize("name", EXTRACTIONS)
def test_distilling_baselines_need_the_released_model_and_are_marked(attacker, name):
    pipeline = parse_attack(name)
    assert pipeline.uses_victim
    assert pipeline.extraction
    assert pipeline.tier == Tier.UNLABELLED
    with pytest.raises((AssertionError, TypeError)):
        pipeline.run(attacker(Untouchable(), tier=pipeline.tier))


@pytest.mark.parametrize("name", ["adamerge-donors", "distill-base", "distill-donors"])
def test_data_baselines_need_their_tier(attacker, name):
    with pytest.raises(TierViolation):
        parse_attack(name).run(attacker(tier=Tier.DATA_FREE))
    with pytest.raises(TierViolation):
        parse_attack("finetune-base").run(attacker(tier=Tier.UNLABELLED))
    assert parse_attack("adamerge-donors(loss=cross-entropy)").tier == Tier.LABELLED


@pytest.mark.parametrize("donors", [("b",), ("b", "c")])
def test_merged_donors_start_from_their_task_arithmetic(attacker, donors):
    view = attacker(tier=Tier.UNLABELLED, donors=donors)
    learned = parse_attack("adamerge-donors(steps=0)").run(view)
    expected = TaskArithmetic().merge(view.donors, view)
    for key in expected:
        torch.testing.assert_close(learned[key], expected[key])
    if len(donors) == 1:
        assert all(torch.equal(v, view.donors["b"][k]) for k, v in merge_donors(view).items())
    else:
        assert all(torch.equal(v, expected[k]) for k, v in merge_donors(view).items())


def test_merged_donors_learn_from_the_victims_examples_too(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    start, end = (parse_attack(f"adamerge-donors(steps={s}, lr=0.1)").run(view) for s in (0, 15))
    before, after = (
        sum(entropy(view.suite.predict(s, t, view.examples[t][0])).item() for t in "ab") for s in (start, end)
    )
    assert after < before
    assert view.reads.unlabelled == {"a": 20, "b": 20}


@pytest.mark.parametrize(
    ("name", "stage", "start"),
    [
        ("finetune-base", Finetune, "base"),
        ("finetune-donors", Finetune, "donors"),
        ("distill-base", Distill, "base"),
        ("distill-donors", Distill, "donors"),
    ],
)
def test_trained_baselines_are_their_recovery_from_another_start(attacker, name, stage, start):
    view = attacker(tier=stage.base_tier, donors=("b", "c"))
    state = parse_attack(f"{name}(steps=2, lr=0.001, k=7)").run(view)
    again = attacker(tier=stage.base_tier, donors=("b", "c"))
    begin = again.base if start == "base" else merge_donors(again)
    expected = stage(steps=2, lr=0.001, k=7).recover(begin, again)
    assert all(torch.equal(state[k], expected[k]) for k in expected)
    read = view.reads.labelled if stage is Finetune else view.reads.unlabelled
    assert set(read.values()) == {7}


def test_players_are_left_as_they_were(attacker):
    view = attacker(tier=Tier.LABELLED)
    states = [view.base, view.released, *view.donors.values()]
    before = [{k: v.clone() for k, v in state.items()} for state in states]
    for name in [*FLOORS, *EXTRACTIONS]:
        parse_attack(name).run(AttackerView(**vars(view)))
    AdaMerging(steps=1).merge({"a": view.released, **view.donors}, view)
    assert all(torch.equal(s[k], b[k]) for s, b in zip(states, before, strict=True) for k in b)
