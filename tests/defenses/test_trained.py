"""Trained defenses: what each minimises, what it leaves alone, and what its published numbers mean."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mergearena.bench.errors import BadConfig
from mergearena.bench.merging.kernels import norm, task_vector
from mergearena.defenses.protect.arf import ARF, shortfall
from mergearena.defenses.protect.mergeguard import MergeGuard, critical_keys
from mergearena.defenses.protect.own_loss import own_loss
from mergearena.defenses.protect.trap2 import Trap2, random_scale


def labelled_by(tiny, victim, view):
    """The view with the victim's own answers as labels: a victim that has learned its task."""
    inputs = torch.randn(24, 3, 14, 14, generator=torch.Generator().manual_seed(9))
    data = inputs, tiny.predict(victim, "a", inputs).argmax(-1).clone()

    class Learned(type(tiny)):
        def load(self, task, split):
            return data

    return replace(view, suite=Learned())


@pytest.fixture
def learned(tiny, defender):
    victim = tiny.finetuned("a")
    return victim, labelled_by(tiny, victim, defender())


def loss(state, view):
    inputs, labels = view.train()
    return F.cross_entropy(view.suite.predict(state, "a", inputs), labels).item()


def between(victim, base, s):
    return {key: value + s * (victim[key] - value) for key, value in base.items()}


TRAINED = [Trap2(steps=3), ARF(steps=3), MergeGuard(steps=3)]


@pytest.mark.parametrize("defense", TRAINED, ids=lambda d: d.name)
def test_same_draws_same_release_and_the_victim_stays(tiny, defender, defense):
    victim = tiny.finetuned("a")
    before = {k: v.clone() for k, v in victim.items()}
    first, again, other = (defense.protect(victim, defender(seed)) for seed in (1, 1, 2))
    assert {k: (v.shape, v.dtype) for k, v in first.items()} == {k: (v.shape, v.dtype) for k, v in victim.items()}
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
    assert all(torch.equal(victim[k], before[k]) for k in before)
    assert not any(v.requires_grad for v in first.values())
    assert not defense.claims_function


@pytest.mark.parametrize("defense", TRAINED, ids=lambda d: d.name)
def test_every_step_is_reported(tiny, defender, defense):
    told = []
    view = replace(defender(), progress=lambda *step: told.append(step))
    defense.protect(tiny.finetuned("a"), view)
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("defense", [Trap2, ARF, MergeGuard], ids=lambda d: d.name)
def test_the_defaults_cost_a_fraction_of_an_image_models_fine_tuning(defense):
    """Two evaluations a step at most, against 57,600 examples; gradients are not the papers' whole training."""
    config = defense().config
    assert 2 * config.steps * config.batch_size <= 57_600 / 2


def test_the_own_loss_of_the_victim_itself_is_its_cross_entropy(learned):
    """No divergence from its own answers; elsewhere the divergence adds."""
    victim, view = learned
    batch = {"a": view.train()}
    own = own_loss(victim, view)
    assert own(view.model(victim), batch).item() == pytest.approx(loss(victim, view), abs=1e-5)
    assert own(view.model(view.base), batch).item() > loss(view.base, view) + 1e-3


# trap2


def test_scales_are_uniform_outside_the_gap():
    g = torch.Generator().manual_seed(0)
    drawn = torch.tensor([random_scale(0.05, 2, g) for _ in range(4000)])
    assert drawn.min() >= 0.05
    assert drawn.max() <= 2
    assert not ((drawn > 0.95) & (drawn < 1.05)).any()
    assert (drawn < 0.95).double().mean().item() == pytest.approx(0.9 / 1.85, abs=0.03)
    assert drawn[drawn < 0.95].mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn[drawn > 1.05].mean().item() == pytest.approx(1.525, abs=0.04)


@pytest.mark.parametrize(
    ("low", "high", "ends"), [(0.3, 0.95, (0.3, 0.95)), (1.0, 1.5, (1.05, 1.5)), (0.9, 1.0, (0.9, 0.95))]
)
def test_one_side_of_the_gap(low, high, ends):
    g = torch.Generator().manual_seed(0)
    drawn = [random_scale(low, high, g) for _ in range(300)]
    width = ends[1] - ends[0]
    assert ends[0] - 1e-9 <= min(drawn) < ends[0] + 0.1 * width
    assert ends[1] - 0.1 * width < max(drawn) <= ends[1] + 1e-9


def test_a_range_with_nothing_to_trap_is_refused():
    with pytest.raises(BadConfig, match="raise high"):
        Trap2(low=0.96, high=1.04)


def test_the_trap_raises_the_loss_between_base_and_victim_only(learned):
    victim, view = learned
    plain, trapped = (Trap2(steps=60, lr=3e-3, trap=w).protect(victim, view) for w in (0.0, 2.0))
    for s in (0.4, 0.8):
        assert loss(between(trapped, view.base, s), view) > loss(between(plain, view.base, s), view) + 0.3
    assert loss(trapped, view) < loss(between(trapped, view.base, 0.8), view) - 0.3


def test_a_step_with_the_trap_is_the_published_gradient(learned):
    """AdamW's first step goes lr against the sign of grad L(theta) - (lambda / s) s (grad L)(theta0 + s tau)."""
    victim, view = learned
    trapped = Trap2(steps=1, lr=1e-3, batch_size=16, trap=2.0, repair=0.0, enough=1e6).protect(victim, view)
    replay = torch.Generator().manual_seed(0)
    inputs, labels = view.train()
    rows = torch.randint(len(labels), (16,), generator=replay)
    s = random_scale(0.3, 0.95, replay)
    batch = {"a": (inputs[rows], labels[rows])}
    here, there = view.model(victim), view.model(between(victim, view.base, s))
    own_loss(victim, view)(here, batch).backward()
    F.cross_entropy(view.logits(there, "a", inputs[rows]), labels[rows]).backward()
    names = dict(here.named_parameters())
    for name, moved in there.named_parameters():
        gradient = names[name].grad - 2.0 / s * (s * moved.grad)
        clear = gradient.abs() > 1e-3
        step = (trapped[name] - victim[name])[clear]
        torch.testing.assert_close(step, -1e-3 * gradient.sign()[clear], rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("off", [{"trap": 0.0}, {"repair": 1.0}, {"enough": 1e-9}])
def test_without_trap_all_that_remains_is_the_own_loss(learned, off):
    """A loss above the bound has no gradient, and no step before the repair no trap."""
    victim, view = learned
    state = view.generator.get_state()
    plain = Trap2(steps=1, trap=0.0).protect(victim, view)
    view.generator.set_state(state)
    other = Trap2(steps=1, **off).protect(victim, view)
    assert all(torch.equal(plain[k], other[k]) for k in plain)


# arf


def test_the_shortfall_by_hand(tiny, defender):
    view = defender()
    group = view.architecture.attentions[0]
    state = {k: v.clone() for k, v in view.base.items()}
    sides = [s for g in view.architecture.attentions for s in (g.q, g.k, g.v, g.o)]
    whole = 0.1 * sum(s.read(view.base).norm() for s in sides)
    assert shortfall(view.architecture, view.base, state, 0.1).item() == pytest.approx(whole.item(), rel=1e-5)
    anchor = group.q.read(view.base)
    for share, left in ((0.04, 0.06), (0.3, 0.0)):
        group.q.write(state, (1 + share) * anchor)
        expected = whole - (0.1 - left) * anchor.norm()
        assert shortfall(view.architecture, view.base, state, 0.1).item() == pytest.approx(expected.item(), rel=1e-4)


def test_attention_is_pushed_as_far_as_the_radius(learned):
    victim, view = learned
    near = between(victim, view.base, 0.05)
    ratios = {}
    for radius in (0.0, 0.3):
        pushed = ARF(steps=80, lr=3e-3, radius=radius, scaling="diagonal", push=5.0)
        released = pushed.protect(near, replace(view, generator=torch.Generator().manual_seed(0)))
        group = view.architecture.attentions[0]
        # Norms of products are what no gauge moves.
        circuit, base = (group.q.read(s).mT @ group.k.read(s) for s in (released, view.base))
        ratios[radius] = ((circuit - base).norm() / base.norm()).item()
    assert ratios[0.3] > 2 * ratios[0.0]


def test_the_rewriting_keeps_the_function_and_leaves_the_base(learned):
    """With rates too small to learn anything, only the rewriting remains."""
    victim, view = learned
    released = ARF(steps=1, lr=1e-12).protect(victim, view)
    inputs, _ = view.train()
    expected = view.suite.predict(victim, "a", inputs)
    torch.testing.assert_close(view.suite.predict(released, "a", inputs), expected, rtol=2e-3, atol=2e-3)
    attention = {key for group in view.architecture.attentions for key in group.keys}
    for key in attention:
        assert (released[key] - victim[key]).norm() > 0.1 * victim[key].norm()
    assert all(torch.allclose(released[k], victim[k], atol=1e-6) for k in victim if k not in attention)


# mergeguard


def test_the_second_stage_takes_back_the_largest_entries_outside_critical_layers(tiny, defender):
    victim, view = tiny.finetuned("a"), defender()
    released = MergeGuard(stage=2).protect(victim, view)
    tau, left = task_vector(victim, view.base), task_vector(released, view.base)
    critical = critical_keys(tau, 0.1)
    free = [k for k in tau if k not in critical]
    assert all(torch.equal(released[k], victim[k]) for k in critical)
    taken, kept = (
        torch.cat([tau[k][(released[k] != victim[k]) == gone].abs() for k in free]) for gone in (True, False)
    )
    assert taken.min() >= kept.max()
    assert len(taken) == pytest.approx(0.1 * (len(taken) + len(kept)), abs=1)
    assert all((left[k][released[k] != victim[k]].abs() < 1e-6).all() for k in free)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_beta_scales_what_is_taken_back(tiny, defender, beta):
    victim, view = tiny.finetuned("a"), defender()
    tau = task_vector(victim, view.base)
    left = task_vector(MergeGuard(stage=2, beta=beta, critical=0, taken=1).protect(victim, view), view.base)
    assert all(torch.allclose(left[k], (1 - beta) * tau[k], atol=1e-6) for k in tau)


def test_all_critical_or_nothing_taken_leaves_the_victim(tiny, defender):
    victim, view = tiny.finetuned("a"), defender()
    for off in ({"critical": 1.0}, {"taken": 0.0}, {"beta": 0.0}):
        released = MergeGuard(stage=2, **off).protect(victim, view)
        assert all(torch.equal(released[k], victim[k]) for k in victim)


def test_critical_layers_by_hand():
    tau = {
        "a.weight": torch.full((3, 2), 0.1),
        "a.bias": torch.full((2,), 3.0),  # layer a: mean (0.6 + 6) / 8
        "b.weight": torch.full((8,), -0.9),
        "c.weight": torch.full((8,), 0.2),
    }
    assert critical_keys(tau, 0.0) == set()
    assert critical_keys(tau, 0.3) == {"b.weight"}
    assert critical_keys(tau, 0.34) == {"b.weight", "a.weight", "a.bias"}
    assert critical_keys(tau, 1.0) == set(tau)


def test_the_first_stage_shrinks_the_parameters(learned):
    victim, view = learned
    sizes = [
        norm(MergeGuard(stage=1, steps=30, lr=1e-3, alpha=alpha).protect(victim, view)) for alpha in (0.0, 0.01, 1.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]
    assert all(map(math.isfinite, sizes))


def test_both_stages_are_one_after_the_other(learned):
    victim, view = learned
    state = view.generator.get_state()
    both = MergeGuard(steps=4).protect(victim, view)
    view.generator.set_state(state)
    first = MergeGuard(steps=4, stage=1).protect(victim, view)
    assert all(torch.equal(both[k], v) for k, v in MergeGuard(stage=2).protect(first, view).items())
