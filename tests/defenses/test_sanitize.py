"""Safe mergers and repairs: what each computes, what it leaves alone, and that it lowers the loss that it claims to."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conftest import FAMILIES, close, computes
from mergearena.bench.games.backdoor.pipeline import parse_merger
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.learning.perturbation import Perturbation
from mergearena.bench.learning.training import At
from mergearena.bench.merging.kernels import add_task_vector, average, matrices
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.tier import Tier
from mergearena.bench.symmetry.architecture import architecture_of
from mergearena.defenses.sanitize.anp import anp, masked_loss, worst
from mergearena.defenses.sanitize.awm import awm
from mergearena.defenses.sanitize.lfpm import distance, lfpm
from mergearena.defenses.sanitize.msd import evolve, fitness, modules_of, msd
from mergearena.defenses.sanitize.neurons import Neurons
from mergearena.defenses.sanitize.own_answers import mean_loss, mislead, own_answers
from mergearena.defenses.sanitize.sau import jensen_shannon, sau, shared, unlearning
from mergearena.defenses.sanitize.wag import wag
from tiny_suite import randomized
from token_suite import TokenSuite


@pytest.fixture(params=["pictures", "tokens"])
def suite(request, tiny):
    return tiny if request.param == "pictures" else TokenSuite()


def merger(suite, seed=0, tasks=("a", "b")):
    return MergerView(
        suite=suite,
        base=suite.base(),
        tasks=tasks,
        generator=torch.Generator().manual_seed(seed),
        tier=Tier.UNLABELLED,
        examples={task: suite.load(task, "train") for task in tasks},
        contributions={task: suite.finetuned(task) for task in tasks},
    )


def mean_of(view):
    return average(list(view.contributions.values()))


def same(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[k], right[k]) for k in left)


QUICK = [
    "wag",
    "msd(candidates=2, rounds=20)",
    "lfpm(steps=2)",
    "wag > anp(steps=2)",
    "wag > awm(steps=2)",
    "wag > sau(steps=2)",
]


@pytest.mark.parametrize("spelling", QUICK)
def test_same_seed_same_model_and_the_inputs_stay(suite, spelling):
    view = merger(suite)
    before = {t: {k: v.clone() for k, v in state.items()} for t, state in view.contributions.items()}
    base = {k: v.clone() for k, v in view.base.items()}
    run = parse_merger(spelling).run
    first, again = run(view), run(merger(suite))
    assert same(first, again)
    assert {k: (v.shape, v.dtype) for k, v in first.items()} == {k: (v.shape, v.dtype) for k, v in base.items()}
    assert not any(v.requires_grad for v in first.values())
    assert all(torch.isfinite(v).all() for v in first.values())
    assert all(same(view.contributions[t], before[t]) for t in before)
    assert same(view.base, base)
    if not spelling.startswith("wag >") and spelling != "wag":
        assert not same(first, run(merger(suite, seed=1)))


@pytest.mark.parametrize("repair", ["anp", "awm", "sau"])
def test_every_step_of_a_repair_is_reported(tiny, repair):
    told = []
    view = replace(merger(tiny), progress=lambda *step: told.append(step))
    parse_merger(f"wag > {repair}(steps=3)").run(view)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert view.reads.unlabelled == {"a": 20, "b": 20}
    assert not view.reads.labelled


# wag


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_wag_is_task_arithmetic_of_a_small_coefficient(tiny, copies):
    view = merger(tiny)
    models = list(view.contributions.values())
    total = TaskVectors(models, view.base).elementwise(lambda stack: stack.sum(0))
    expected = add_task_vector(view.base, total, 1 / (len(models) + copies))
    merged = wag(view.contributions, view, copies=copies)
    for key in expected:
        torch.testing.assert_close(merged[key], expected[key], rtol=1e-5, atol=1e-6)
    if copies == 0:
        assert same(merged, mean_of(view))


# msd


def test_msd_takes_every_module_whole_from_one_contribution(suite):
    view = merger(suite, tasks=("a", "b", "c"))
    merged = msd(view.contributions, view, candidates=2, rounds=50)
    owner = {}
    for key, value in merged.items():
        sources = {t for t, state in view.contributions.items() if torch.equal(value, state[key])}
        assert sources
        owner.setdefault(key.rpartition(".")[0], []).append(sources)
    assert all(set.intersection(*found) for found in owner.values())
    used = [next(iter(set.intersection(*found))) for found in owner.values()]
    assert set(used) == {"a", "b", "c"}


def test_modules_and_their_neighbours_by_hand(tiny):
    """Two blocks of in_proj, out_proj, fc, proj: 0-1-2-3 and 4-5-6-7, then the six modules of norms and ends."""
    modules, adjacent = modules_of(tiny.architecture, tiny.base())
    assert sorted(key for keys in modules for key in keys) == sorted(tiny.base())
    ahead = {(i, i + 1): 1.0 for i in range(7)} | {(i, i + 2): 0.5 for i in range(6)}
    assert adjacent == ahead | {(i, i + 4): 1.0 for i in range(4)}
    assert {key.rpartition(".")[0].rpartition(".")[2] for key in modules[2]} == {"c_fc"}


def test_fitness_by_hand():
    adjacent = {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 0.5}
    assert fitness((0, 1, 2), 3, adjacent) == 0
    assert fitness((0, 0, 0), 3, adjacent) == -2.5 - (2 + 1 + 1)
    assert fitness((0, 1, 0), 2, adjacent) == -0.5 - (0.5 + 0.5)


def test_evolution_never_gets_worse_and_finds_what_can_be_had(tiny):
    modules, adjacent = modules_of(tiny.architecture, tiny.base())
    scores = []
    for rounds in (0, 30, 100, 400):
        draws = torch.Generator().manual_seed(0)
        scores.append(fitness(evolve(len(modules), 4, adjacent, 10, rounds, draws), 4, adjacent))
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 1


# neurons


def family_model(name):
    torch.manual_seed(0)
    return randomized(FAMILIES[name]().double(), 1)


def test_factors_of_one_change_nothing_and_zeros_remove_a_neuron(architecture_and_states):
    architecture, state, _ = architecture_and_states
    neurons = Neurons(architecture)
    assert neurons.count == sum(m.width for m in architecture.mlps) + sum(a.heads for a in architecture.attentions)
    ones = neurons.ones()
    assert all(torch.equal(value, state[key]) for key, value in neurons.scaled(state, ones, ones).items())
    out = ones.clone()
    head, unit = neurons.count - 1, architecture.mlps[0].width + 2
    out[[head, unit]] = 0
    scaled = {**state, **neurons.scaled(state, out, ones)}
    group, mlp = architecture.attentions[-1], architecture.mlps[1]
    read = group.o.read(scaled)
    assert (read[-1] == 0).all()
    assert torch.equal(read[:-1], group.o.read(state)[:-1])
    columns = mlp.axes[-1].rows(scaled)
    assert (columns[2] == 0).all()
    changed = {k for k in state if not torch.equal(scaled[k], state[k])}
    assert changed == {group.o.weight.key, mlp.axes[-1].key}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_neurons_factor_scales_what_it_writes(name):
    """Scaling O's columns of a head is scaling its V: weights and bias."""
    model = family_model(name)
    architecture = architecture_of(model)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    neurons, group = Neurons(architecture), architecture.attentions[0]
    factor = torch.rand(neurons.count, generator=torch.Generator().manual_seed(1)).double()
    start = sum(m.width for m in architecture.mlps)
    heads = factor[start : start + group.heads].view(group.kv_heads, -1)
    factor[:start], factor[start + group.heads :] = 1, 1
    heads[:] = heads[:, :1]  # query heads that share a V must share its factor
    by_out = {**state, **neurons.scaled(state, factor, torch.ones_like(factor))}
    by_value = {k: v.clone() for k, v in state.items()}
    group.v.write(by_value, group.v.read(state) * heads[:, 0, None, None])
    close(computes(model, by_out), computes(model, by_value))
    # Of the biases, only those of V and of hidden units get the second factor.
    biased = neurons.scaled(state, torch.ones_like(factor), factor)
    assert torch.equal(group.v.read({**state, **biased})[..., :-1], group.v.read(state)[..., :-1])


# anp


def test_the_worst_perturbation_is_in_the_ball_and_raises_the_loss(tiny):
    view = merger(tiny)
    merged, neurons = mean_of(view), Neurons(tiny.architecture)
    data, model, ones = own_answers(merged, view), view.model(merged), neurons.ones()
    d, e = worst(model, merged, ones, neurons, data, view, 0.3)
    assert max(d.abs().max(), e.abs().max()) <= 0.3 + 1e-6
    before = masked_loss(model, merged, ones, ones, neurons, data, view)
    assert masked_loss(model, merged, 1 + d, 1 + e, neurons, data, view) > before + 0.05
    assert masked_loss(model, merged, 1 - d, 1 - e, neurons, data, view) < masked_loss(
        model, merged, 1 + d, 1 + e, neurons, data, view
    )


def test_anp_that_prunes_nothing_is_the_merge_and_pruned_neurons_write_nothing(tiny):
    view = merger(tiny)
    merged, neurons = mean_of(view), Neurons(tiny.architecture)
    assert same(anp(merged, view, steps=2, lr=1e-6), merged)
    pruned = anp(merged, merger(tiny), steps=20, lr=2.0, threshold=0.9)
    written = torch.cat([mlp.axes[-1].rows(pruned).abs().sum(1) for mlp in tiny.architecture.mlps])
    gone = written == 0
    assert 0 < gone.sum() < len(gone)
    expected = neurons.scaled(
        merged,
        torch.cat([(~gone).float(), *[head_mask(g, pruned) for g in tiny.architecture.attentions]]),
        neurons.ones(),
    )
    assert same(pruned, {**merged, **expected})


def head_mask(group, state):
    return (group.o.read(state).abs().sum((1, 2)) > 0).float()


# awm


def test_masks_shrink_matrices_alone(suite):
    view = merger(suite)
    merged = mean_of(view)
    masked = awm(merged, view, steps=5, lr=0.05)
    touched = matrices(suite.architecture, merged)
    for key in merged:
        if key in touched:
            ratio = (masked[key] / merged[key])[merged[key] != 0]
            assert -1e-6 <= ratio.min() < ratio.max() <= 1 + 1e-6
        else:
            assert torch.equal(masked[key], merged[key])


def test_a_mask_that_does_not_move_is_the_merge(tiny):
    view = merger(tiny)
    merged = mean_of(view)
    masked = awm(merged, view, steps=2, lr=1e-9)
    assert all(torch.allclose(masked[k], merged[k], rtol=1e-6, atol=0) for k in merged)


def test_sparsity_empties_the_mask(tiny):
    view = merger(tiny)
    merged = mean_of(view)
    key = min(matrices(tiny.architecture, merged))
    dense, sparse = (awm(merged, merger(tiny), steps=8, lr=0.05, sparsity=s)[key].abs().sum() for s in (0.0, 1e4))
    assert sparse < 0.8 * dense


def deceived(state, merged, view, radius=0.2, norm="l1"):
    """Mean loss of a model on perturbed inputs, under each task's strongest universal perturbation that is found."""
    model, data = view.model(state).requires_grad_(False), own_answers(merged, view)
    logits = {}
    for task, examples in data.items():
        trigger = Perturbation(view, model, examples[0], radius, norm)
        mislead(trigger, model, task, examples, 10)
        logits[task] = trigger.logits(model, task, examples[0])
    return mean_loss(logits, data).item()


def test_awm_lowers_the_loss_under_the_worst_perturbation(tiny):
    view = merger(tiny)
    merged = mean_of(view)
    repaired = awm(merged, view, steps=12, lr=0.03, clean=0.3, sparsity=0.0)
    assert deceived(repaired, merged, view) < deceived(merged, merged, view) - 0.05


# sau


def test_jensen_shannon_closed_forms():
    left, right = torch.tensor([[50.0, 0, 0]]), torch.tensor([[0.0, 50, 0]])
    assert jensen_shannon(left, left).item() == pytest.approx(0, abs=1e-6)
    assert jensen_shannon(left, right).item() == pytest.approx(math.log(2), rel=1e-5)
    p, q = torch.tensor([[0.7, 0.3], [0.5, 0.5]]), torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    m = (p + q) / 2
    by_hand = ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)).mean() / 2
    assert jensen_shannon(p.log(), q.log()).item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert jensen_shannon(q.log(), p.log()).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_unlearning_by_hand():
    """Only where the class that was taken is not the answer, and finite even where it is taken for certain."""
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    answers, fooled = torch.tensor([0, 1]), torch.tensor([0, 0])
    assert unlearning(p.log(), answers, fooled).item() == pytest.approx(-math.log(0.3) / 2, rel=1e-5)
    assert unlearning(torch.tensor([[60.0, 0.0, 0.0]]), answers[1:], fooled[1:]).item() == pytest.approx(
        60 - math.log(2), rel=1e-5
    )


def test_a_shared_perturbation_fools_both_models_alike(suite):
    view = merger(suite)
    before, model = (view.model(suite.finetuned(task)) for task in "ab")
    inputs, answers = examples = own_answers(suite.finetuned("a"), view)["a"]
    plain = shared(before, model, "a", examples, view, 0.2, "linf", 1.0, 0.0, 0)
    fooling = shared(before, model, "a", examples, view, 0.2, "linf", 1.0, 0.0, 5)
    agreeing = shared(before, model, "a", examples, view, 0.2, "linf", 0.0, 1.0, 5)

    def both(shift):
        left, right = (shift.logits(m, "a", inputs) for m in (model, before))
        fooled = (F.cross_entropy(left, answers) + F.cross_entropy(right, answers)) / 2
        return fooled.item(), jensen_shannon(left, right).item()

    assert both(fooling)[0] > both(plain)[0] + 0.1
    assert both(agreeing)[1] < both(plain)[1] - 1e-4
    assert fooling.delta.abs().max() <= fooling.limit


def test_sau_unlearns_what_the_merge_takes_perturbed_inputs_for(tiny):
    view = merger(tiny)
    merged = mean_of(view)
    plain, repaired = (sau(merged, merger(tiny), unlearn=u, steps=8, lr=2e-3, radius=0.5) for u in (0.0, 1.0))
    inputs, answers = own_answers(merged, view)["a"]
    before = view.model(merged)
    losses = []
    for state in (plain, repaired):
        model = view.model(state)
        shift = shared(before, model, "a", (inputs, answers), view, 0.5, "linf", 0.01, 1.0, 3)
        fooled = shift.logits(before, "a", inputs).argmax(-1)
        losses.append(unlearning(shift.logits(model, "a", inputs), answers, fooled).item())
    assert losses[1] < losses[0] - 0.02


# lfpm


def test_the_distance_of_features_is_that_of_directions():
    x, y = torch.randn(4, 6), torch.randn(4, 6)
    assert distance(x, 3 * x).item() == pytest.approx(0, abs=1e-6)
    expected = (2 - 2 * F.cosine_similarity(x, y)).mean().item()
    assert distance(x, y).item() == pytest.approx(expected, rel=1e-5)


def test_lfpm_adds_its_vector_to_task_arithmetic(tiny):
    view = merger(tiny)
    plain = parse_merger("task-arithmetic").run(view)
    none, one, two = (lfpm(view.contributions, merger(tiny), steps=3, strength=s) for s in (0.0, 1.0, 2.0))
    assert all(torch.allclose(none[k], plain[k], atol=1e-6) for k in plain)
    assert not same(one, none)
    for key in plain:
        torch.testing.assert_close(two[key] - none[key], 2 * (one[key] - none[key]), rtol=1e-3, atol=1e-5)
    other = lfpm(view.contributions, merger(tiny), steps=3, strength=0.0, scale=0.1)
    total = TaskVectors(list(view.contributions.values()), view.base).elementwise(lambda stack: stack.sum(0))
    expected = add_task_vector(view.base, total, 0.1)
    assert all(torch.allclose(other[k], expected[k], atol=1e-6) for k in expected)


def shifted_by(state, merged, view, task):
    """How far the worst perturbation found takes a model's features from the merge's clean ones."""
    inputs = view.unlabelled(task)
    features, model = view.suite.embed(merged, inputs).clone(), view.model(state).requires_grad_(False)
    shift = Perturbation(view, model, inputs, 0.2)
    shift.randomise(torch.Generator().manual_seed(5))
    shift.ascend(lambda: distance(shift.features(model, inputs), features), 10)
    return distance(shift.features(model, inputs), features).item()


def test_lfpm_brings_shifted_features_back_along_the_whole_path(tiny):
    view = merger(tiny)
    plain = parse_merger("task-arithmetic").run(view)
    repaired = lfpm(view.contributions, view, steps=15, lr=3e-3)
    halfway = average([plain, repaired])
    for task in view.tasks:
        far, half, near = (shifted_by(state, plain, view, task) for state in (plain, halfway, repaired))
        assert near < 0.9 * far
        assert half < far


def test_a_functional_model_gives_its_own_answers(tiny):
    """What masks multiply reaches the loss: all weights halved is the halved model."""
    view = merger(tiny)
    merged = mean_of(view)
    half = {k: v / 2 for k, v in merged.items()}
    inputs = view.unlabelled("a")
    seen = view.logits(At(view.model(merged), half), "a", inputs)
    torch.testing.assert_close(seen, view.logits(view.model(half), "a", inputs))
