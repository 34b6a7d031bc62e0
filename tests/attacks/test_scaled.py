"""Chosen coefficients: the best there are, found with few looks, and never by luck."""

import itertools

import pytest
import torch

from mergearena.attacks.merge.scaled import COARSE, STEPS, ScaledConfig, ScaledMerge, skill
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.bench.errors import TierViolation
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.players.tier import Tier
from tiny_suite import TinySuite


class Sum(ScaledMerge):
    """Task arithmetic with a default that lies on no grid."""

    def default_scale(self, models):
        return 0.75

    def combine(self, vectors, view):
        return vectors.map(lambda _, stack: stack.sum(0))


class Masked(ScaledMerge):
    """A merge that draws at random: half of the entries, doubled."""

    def combine(self, vectors, view):
        keep = torch.empty(64).bernoulli_(0.5, generator=view.generator)
        return vectors.map(lambda _, stack: stack.sum(0) * 2 * keep)


class Bowl(TinySuite):
    """Every answer right, and a cross-entropy that is a coupled bowl in the two coefficients of unit task vectors."""

    def __init__(self, bottom, right=lambda w: True):
        self.bottom, self.right, self.looks = bottom, right, 0

    def predict(self, state, task, inputs):
        self.looks += 1
        w = state["w"][:2].tolist()
        own, other = (w[0], w[1]) if task == "a" else (w[1], w[0])
        height = (own + 0.3 * other - self.bottom[task]) ** 2 - 20
        wrong = 0 if self.right(w) else 20 - height
        return torch.tensor([[0.0, height + wrong]]).double().repeat(len(inputs), 1)

    def depth(self, c, d):
        return skill({"w": torch.tensor([c, d], dtype=torch.float64)}, view_of(self))


def view_of(suite, tier=Tier.LABELLED, size=2):
    examples = {t: (torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)) for t in "ab"}
    base = {"w": torch.zeros(size, dtype=torch.float64)}
    return AttackerView(
        suite=suite,
        base=base,
        tasks=("a", "b"),
        generator=torch.Generator().manual_seed(0),
        released=base,
        victim="a",
        donors={"b": base},
        tier=tier,
        examples=examples,
    )


UNITS = {t: {"w": row} for t, row in zip("ab", torch.eye(2, dtype=torch.float64), strict=True)}


@pytest.mark.parametrize("bottom", [{"a": 0.9, "b": 1.1}, {"a": 0.6, "b": 1.5}, {"a": 1.7, "b": 0.4}])
def test_coefficients_per_model_are_those_of_the_full_grid(bottom):
    suite = Bowl(bottom)
    found = Sum(scale="per-model").merge(UNITS, view_of(suite))["w"]
    # The grid that the search can reach: one coefficient for all, then steps of 0.1.
    start = Sum(scale="chosen").merge(UNITS, view_of(suite))["w"][0].item()
    grid = [c for i in range(-20, 21) if (c := round(start + 0.1 * i, 6)) >= 0]
    best = max(itertools.product(grid, repeat=2), key=lambda pair: suite.depth(*pair))
    assert found.tolist() == pytest.approx(best)


@pytest.mark.parametrize("bottom", [0.4, 1.0, 1.9])
def test_one_coefficient_is_that_of_the_full_grid(bottom):
    suite = Bowl({"a": bottom, "b": bottom})
    found = Sum(scale="chosen").merge(UNITS, view_of(suite))["w"]
    reach = {round(c + 0.1 * i, 6) for c in (0.75, *COARSE) for i in range(-10, 11)}
    best = max(reach, key=lambda c: suite.depth(c, c))
    assert abs(found[0] - bottom / 1.3) <= abs(best - bottom / 1.3) + STEPS[-1] / 2
    assert found[0] == found[1]


def test_coefficients_never_fall_below_zero():
    """The bowl's bottom is at a negative first coefficient: the search ends on the edge."""
    found = Sum(scale="per-model").merge(UNITS, view_of(Bowl({"a": 0.1, "b": 1.5})))["w"]
    assert found[0] == 0
    assert found[1] > 1


def test_accuracy_comes_before_cross_entropy():
    """Answers are wrong below 1.2, where the cross-entropy would be lowest."""
    suite = Bowl({"a": 0.65, "b": 0.65}, right=lambda w: min(w) > 1.15)
    assert suite.depth(1.2, 1.2) > suite.depth(0.5, 0.5)
    found = Sum(scale="chosen").merge(UNITS, view_of(suite))["w"]
    assert found[0] == pytest.approx(1.2)


def test_the_published_coefficient_is_kept_where_it_is_best():
    assert Sum(scale="chosen").merge(UNITS, view_of(Bowl({"a": 0.975, "b": 0.975})))["w"].tolist() == [0.75, 0.75]


@pytest.mark.parametrize(("scale", "most"), [(1.0, 0), (None, 0), ("chosen", 10), ("per-model", 30)])
def test_few_models_are_evaluated(scale, most):
    suite = Bowl({"a": 0.5, "b": 1.4})
    Sum(scale=scale).merge(UNITS, view_of(suite))
    assert suite.looks <= most * 2  # two tasks each


def test_every_candidate_of_a_random_merge_has_the_same_draw():
    view = view_of(Bowl({"a": 0.9, "b": 1.1}), size=64)
    models = {t: {"w": torch.zeros(64, dtype=torch.float64)} for t in "ab"}
    models["a"]["w"][::2], models["b"]["w"][1::2] = 1, 1
    merged = Masked(scale="per-model").merge(models, view)["w"]
    kept = torch.empty(64).bernoulli_(0.5, generator=torch.Generator().manual_seed(0)).bool()
    assert (merged[~kept] == 0).all()
    assert merged[::2][kept[::2]].unique().numel() == merged[1::2][kept[1::2]].unique().numel() == 1


@pytest.mark.parametrize("scale", ["chosen", "per-model"])
def test_what_is_chosen_is_never_worse_on_its_examples(attacker, scale):
    view = attacker(tier=Tier.LABELLED)
    models = {"a": view.released, **view.donors}
    before = {t: {k: v.clone() for k, v in state.items()} for t, state in models.items()}
    chosen, default = (TaskArithmetic(scale=s).merge(models, view) for s in (scale, None))
    assert skill(chosen, view) >= skill(default, view)
    assert all(torch.equal(models[t][k], before[t][k]) for t in models for k in before[t])


def test_skill_by_hand(attacker):
    view = attacker(tier=Tier.LABELLED)
    score, loss = [], []
    for task in view.tasks:
        inputs, labels = view.examples[task]
        p = view.suite.predict(view.base, task, inputs).softmax(-1)
        score.append((p.argmax(-1) == labels).double().mean().item())
        loss.append(p[torch.arange(len(labels)), labels].log().mean().item())
    assert skill(view.base, view) == pytest.approx((sum(score) / 2, sum(loss) / 2), rel=1e-5)


def test_choosing_needs_labels(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    for scale in ("chosen", "per-model"):
        merge = TaskArithmetic(scale=scale)
        assert merge.tier == Tier.LABELLED
        with pytest.raises(TierViolation, match="labelled"):
            merge.merge({"a": view.released, **view.donors}, view)
    assert TaskArithmetic(scale=0.3).tier == TaskArithmetic().tier == Tier.DATA_FREE
    assert ScaledConfig().scale is None
