"""Aligners that run the model or descend on a loss: what they recover, and that they never make it worse."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import outputs
from mergearena.attacks.align.activation_matching import _Tally, activation_matching
from mergearena.attacks.align.polish import Polish
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.bench.errors import TierViolation, UnsupportedArchitecture
from mergearena.bench.games.metering import metered
from mergearena.bench.players.tier import Tier
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.bench.symmetry.heads import Gauge


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scrambled(architecture, state, permute=True, turn=False, seed=0):
    """Hidden units shuffled, heads in another gauge, or both."""
    g = torch.Generator().manual_seed(seed)
    orders = {m.name: torch.randperm(m.width, generator=g) for m in architecture.mlps} if permute else {}
    gauges = {}
    for a in architecture.attentions if turn else ():
        noise = randn(2, a.kv_heads, a.width, a.width, seed=seed) / 4
        generators = noise - noise.mT + torch.eye(a.width) / 2
        turned = [torch.matrix_exp(x) for x in (a.nearest_admissible(generators[0]), generators[1])]
        gauges[a.name] = Gauge(*turned, torch.arange(a.kv_heads))
    return architecture.apply(state, Element(orders, gauges))


def distance(left, right):
    return sum(float((left[k] - right[k]).double().square().sum()) for k in left)


def assert_same(left, right, **tolerance):
    for key in left:
        torch.testing.assert_close(left[key], right[key], **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.fixture
def answering(family):
    """A view of each family whose examples are random inputs and whose logits are the model's outputs."""
    model, other = family(1), family(2)
    base = {k: v.clone() for k, v in model.state_dict().items()}
    victim = {k: torch.lerp(v, other.state_dict()[k], 0.05) if v.is_floating_point() else v for k, v in base.items()}
    if hasattr(model, "config"):
        inputs = torch.randint(1, 40, (12, 9), generator=torch.Generator().manual_seed(0))
    else:
        inputs = randn(12, 3, 14, 14)

    def loaded(state):
        fresh = family(1)
        fresh.load_state_dict(state)
        return fresh

    return SimpleNamespace(
        architecture=architecture_of(model),
        base=base,
        victim=victim,
        tasks=("a",),
        model=loaded,
        outputs=lambda model, _, inputs: model(inputs),
        unlabelled=lambda _: inputs,
    )


@pytest.mark.parametrize("similarity", ["inner", "correlation"])
def test_activations_undo_a_permutation_whatever_happened_to_the_heads(answering, similarity):
    view = answering
    turned, shuffled = (scrambled(view.architecture, view.victim, permute=p, turn=True) for p in (False, True))
    assert any(not torch.equal(shuffled[k], turned[k]) for k in turned)
    kept = {k: v.clone() for k, v in shuffled.items()}
    assert_same(activation_matching(shuffled, view, similarity=similarity, batch_size=5), turned)
    assert_same(shuffled, kept)


@pytest.mark.parametrize("similarity", ["inner", "correlation"])
def test_activations_leave_the_unprotected_victim_as_it_is(answering, similarity):
    assert_same(activation_matching(answering.victim, answering, similarity=similarity), answering.victim)


def test_activations_are_read_of_every_task_in_the_tier_that_allows_it(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    activation_matching(view.released, view)
    assert view.reads.unlabelled == {task: 20 for task in view.tasks}
    assert not view.reads.labelled
    with pytest.raises(TierViolation):
        activation_matching(view.released, attacker())


def test_the_tally_of_batches_is_pearsons_correlation_of_the_whole():
    base, ours = randn(50, 4, seed=1) + 3, randn(50, 4, seed=2) * 5 - 1
    tally = _Tally(4)
    for batch in torch.arange(50).split(7):
        tally.add(base[batch], ours[batch])
    np.testing.assert_allclose(tally.cross, base.numpy().T @ ours.numpy())
    np.testing.assert_allclose(tally.correlation(), np.corrcoef(base.T, ours.T)[:4, 4:])


def test_a_unit_that_never_changes_correlates_with_none():
    tally = _Tally(2)
    tally.add(torch.tensor([[3.0, 1.0], [3.0, 2.0]]), torch.tensor([[0.1, 2.0], [0.1, 4.0]]))
    torch.testing.assert_close(tally.correlation(), torch.tensor([[0, 0], [0, 1.0]]).double())


@pytest.mark.parametrize("similarity", ["inner", "correlation"])
def test_dead_units_are_survived(answering, similarity):
    """The living keep their places up to those of the dead, which are all alike."""
    group, dead = answering.architecture.mlps[0], {k: v.clone() for k, v in answering.victim.items()}
    for axis in group.axes:
        dead[axis.key].narrow(axis.dim, 0, 2).zero_()
    back = activation_matching(dead, answering, similarity=similarity)
    moved = (group.units(back) != group.units(dead)).any(1)
    assert moved.sum() <= 4
    assert_same({"units": group.units(back).sum(0)}, {"units": group.units(dead).sum(0)}, rtol=1e-9, atol=1e-9)


def test_a_group_that_no_layer_reads_by_columns_is_named(answering):
    group = answering.architecture.mlps[0]
    rows = type(group)(group.name, group.width, tuple(a for a in group.axes if a.dim == 0))
    view = SimpleNamespace(
        **{**vars(answering), "architecture": SimpleNamespace(mlps=(rows,), attentions=(), scales=(), norms=())}
    )
    with pytest.raises(UnsupportedArchitecture, match=group.name):
        activation_matching(view.victim, view)


def test_polish_walks_back_a_gauge(answering):
    """From the base in another gauge: most of the distance to it is gone, and each layer took part."""
    view = answering
    released = scrambled(view.architecture, view.base, permute=False, turn=True)
    back = Polish(steps=60, lr=0.05).align(released, view)
    assert distance(back, view.base) < 0.1 * distance(released, view.base)
    assert {k for k in back if not torch.equal(back[k], released[k])} >= {
        k for a in view.architecture.attentions for k in a.keys
    }


def test_polish_undoes_a_swap_of_two_units(answering):
    """The straight-through step finds a permutation that no small step of the weights contains."""
    view = answering
    group = view.architecture.mlps[0]
    order = torch.arange(group.width)
    order[[0, 1]] = order[[1, 0]]
    released = view.architecture.apply(view.base, Element({group.name: order}))
    back = Polish(steps=40, lr=0.1).align(released, view)
    torch.testing.assert_close(group.units(back), group.units(view.base), rtol=0.1, atol=0.1)
    assert distance(back, view.base) < 0.1 * distance(released, view.base)


@pytest.mark.parametrize("lr", [1e-3, 0.05, 50.0])
def test_polish_never_ends_farther_from_the_base(answering, lr):
    view = answering
    released = scrambled(view.architecture, view.victim, turn=True)
    kept = {k: v.clone() for k, v in released.items()}
    back = Polish(steps=4, lr=lr).align(released, view)
    assert distance(back, view.base) <= distance(released, view.base)
    assert_same(released, kept)
    if lr < 1:
        assert distance(back, view.base) < distance(released, view.base)


def test_polish_keeps_the_function(answering):
    view = answering
    released = scrambled(view.architecture, view.victim, turn=True)
    back = Polish(steps=10, lr=0.05).align(released, view)
    assert distance(back, released) > 0
    torch.testing.assert_close(outputs(view.model(back)), outputs(view.model(released)), rtol=1e-8, atol=1e-8)


def merge_loss(aligned, view, labelled):
    """The mean (cross-)entropy of task arithmetic with the donors, worked without polish."""
    merged = TaskArithmetic().merge({view.victim: aligned, **view.donors}, view)
    losses = []
    for task in view.tasks:
        inputs, labels = view.examples[task]
        log_p = view.suite.predict(merged, task, inputs).double().log_softmax(-1)
        losses.append(-log_p[torch.arange(len(labels)), labels] if labelled else -(log_p.exp() * log_p).sum(-1))
    return float(torch.stack([x.mean() for x in losses]).mean())


@pytest.mark.parametrize("objective", ["unlabelled", "labelled"])
@pytest.mark.parametrize("donors", [("b",), ("b", "c")])
def test_polish_lowers_the_loss_of_the_merge_and_keeps_the_function(attacker, objective, donors):
    view = attacker(tier=Tier(objective), donors=donors)
    polish = Polish(objective=objective, steps=8, lr=0.05)
    assert polish.tier == Tier(objective)
    with metered() as cost:
        back = polish.align(view.released, view)
    before, after = (merge_loss(s, view, objective == "labelled") for s in (view.released, back))
    assert after < before - 0.01
    assert cost.gradient_steps == 8
    assert getattr(view.reads, objective) == {task: 20 for task in view.tasks}
    inputs, _ = view.suite.load("a", "validation")
    theirs, ours = (view.suite.predict(s, "a", inputs) for s in (view.released, back))
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert_same(view.released, view.suite.finetuned("a"))


@pytest.mark.parametrize("objective", ["unlabelled", "labelled"])
def test_polish_never_raises_the_loss_of_the_merge(attacker, objective):
    view = attacker(tier=Tier(objective))
    back = Polish(objective=objective, steps=3, lr=50.0).align(view.released, view)
    before, after = (merge_loss(s, view, objective == "labelled") for s in (view.released, back))
    assert after <= before


def test_polish_without_data_needs_none(attacker):
    assert Polish().tier == Tier.DATA_FREE
    view = attacker()
    back = Polish(steps=2).align(view.released, view)
    assert distance(back, view.base) < distance(view.released, view.base)
    with pytest.raises(TierViolation):
        Polish(objective="unlabelled").align(view.released, view)
