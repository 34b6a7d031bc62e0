"""Tied weights: one tensor under several names, to merges, to models and in what a merge returns."""

import pytest
import torch
from tied_suite import EMBEDDING, HEAD, TiedSuite
from torch import nn

from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.players.tier import Tier
from mergearena.bench.suites.ties import single, ties_of, whole
from tiny_suite import TinySuite


def attacker(suite):
    return AttackerView(
        suite=suite,
        base=suite.base(),
        tasks=("a", "b"),
        generator=torch.Generator().manual_seed(0),
        released=suite.finetuned("a"),
        victim="a",
        donors={"b": suite.finetuned("b")},
        tier=Tier.LABELLED,
        examples={task: suite.load(task, "train") for task in "ab"},
    )


def test_names_of_one_tensor_are_found_and_others_are_not():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    with torch.no_grad():
        model[1].weight.copy_(model[0].weight)  # equal, but not tied
    assert ties_of(model) == {"2.weight": "0.weight"}
    assert TiedSuite().ties == {HEAD: EMBEDDING}
    assert TinySuite().ties == {}


def test_whole_undoes_single():
    state, ties = {"a": torch.ones(2), "b": torch.zeros(3), "c": torch.ones(2)}, {"c": "a"}
    assert single(state, ties).keys() == {"a", "b"}
    assert whole(single(state, ties), ties).keys() == state.keys()
    assert whole(single(state, ties), ties)["c"] is state["c"]


def test_of_names_that_differ_the_one_counts_that_a_model_loads():
    suite = TiedSuite()
    state = suite.base() | {HEAD: suite.finetuned("a")[HEAD]}
    with suite.loaded(state) as model:
        loaded = model.state_dict()[EMBEDDING].clone()
    assert torch.equal(single(state, suite.ties)[EMBEDDING], loaded)
    assert not torch.equal(loaded, state[EMBEDDING])


def test_a_model_takes_tied_weights_under_one_name():
    suite = TiedSuite()
    state, inputs = suite.finetuned("a"), suite.probes(3, torch.Generator().manual_seed(0))
    one = single(state, suite.ties)
    assert HEAD not in one
    assert torch.equal(suite.predict(one, "a", inputs), suite.predict(state, "a", inputs))
    view = attacker(suite)
    assert torch.equal(view.outputs(view.model(one), "a", inputs), view.outputs(view.model(state), "a", inputs))


@pytest.mark.parametrize(
    "spelling",
    [
        "average",
        "dare",
        "dare(then=ties)",
        "della",
        "regmean",
        "ties(scale=chosen)",
        "adamerging(steps=2)",
        "adamerging(loss=cross-entropy, steps=2)",
        "weight-matching+gauge-anchor > dare > finetune(steps=2)",
    ],
)
def test_tied_weights_stay_tied_through_every_kind_of_merge(spelling):
    suite = TiedSuite()
    merged = parse_attack(spelling).run(attacker(suite))
    assert merged.keys() == suite.base().keys()
    assert torch.equal(merged[EMBEDDING], merged[HEAD])
    assert not torch.equal(merged[HEAD], suite.base()[HEAD])
