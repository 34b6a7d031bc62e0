"""Concrete masks and learned merge coefficients: closed forms, gradients, and what a mask of ones does."""

import math

import pytest
import torch

from mergearena.bench.learning.coefficients import Blend, batch, entropies, entropy, learned
from mergearena.bench.learning.masks import concrete, concrete_mean, expected, product, rescaled, sampled, zero_logits
from mergearena.bench.merging.kernels import add_task_vector, task_vector
from mergearena.bench.players.tier import Tier
from mergearena.bench.players.views import MergingView

LOGITS = torch.tensor([-30.0, -4.0, -1.0, -0.1, 0.0, 0.3, 2.0, 6.0], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_expectation_is_the_integral_over_the_draws():
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    integral = ((LOGITS[1:, None] + u.logit()) / 0.5).sigmoid().mean(1)
    torch.testing.assert_close(concrete_mean(LOGITS[1:]), integral, rtol=1e-4, atol=1e-8)


def test_the_expectation_by_hand():
    """At 0 by symmetry; far below, the integral of e^2a u^2 / (e^2a u^2 + (1 - u)^2) tends to pi e^a / 2."""
    assert concrete_mean(torch.zeros(())).item() == 0.5
    assert concrete_mean(LOGITS[:1]).item() == pytest.approx(math.pi / 2 * math.exp(-30), rel=1e-9)
    torch.testing.assert_close(concrete_mean(LOGITS) + concrete_mean(-LOGITS), torch.ones_like(LOGITS))
    assert torch.equal(concrete_mean(torch.tensor([-500.0, 500.0])), torch.tensor([0.0, 1.0]))
    assert (concrete_mean(LOGITS).diff() > 0).all()


def test_samples_average_to_the_expectation():
    drawn = concrete(LOGITS.repeat(40_000, 1), generator())
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    # A variable in [0, 1] has a deviation of at most 1/2: five deviations of the mean.
    torch.testing.assert_close(drawn.mean(0), concrete_mean(LOGITS), rtol=0, atol=5 * 0.5 / 200)


def test_the_gradient_of_a_sample_is_its_slope():
    """Rescaling included: the same draws, the logits moved."""
    weights = torch.randn(8, dtype=torch.float64, generator=generator(1))

    def value(logits):
        return (sampled({"w": logits}, generator(2))["w"] * weights).sum()

    logits = LOGITS.clone().requires_grad_()
    value(logits).backward()
    h = 1e-6
    slopes = [(value(LOGITS + h * e) - value(LOGITS - h * e)) / (2 * h) for e in torch.eye(8, dtype=torch.float64)]
    torch.testing.assert_close(logits.grad, torch.stack(slopes), rtol=1e-6, atol=1e-9)
    assert logits.grad[1:-1].abs().min() > 0


def test_masks_have_mean_one_and_shapes_of_their_tensors(tiny):
    logits = zero_logits({**tiny.base(), "count": torch.tensor(3)})
    assert "count" not in logits
    for mask in (sampled(logits, generator()), expected(logits)):
        assert {k: v.shape for k, v in mask.items()} == {k: v.shape for k, v in tiny.base().items()}
        assert all(m.mean().item() == pytest.approx(1, abs=1e-5) for m in mask.values())
    first, again, other = (sampled(logits, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_equal_logits_mask_nothing():
    """Whatever their value, in expectation: rescaling takes a tensor's common factor away."""
    for value in (-3.0, 0.0, 2.0):
        mask = expected({"w": torch.full((3, 4), value)})["w"]
        torch.testing.assert_close(mask, torch.ones(3, 4))


def test_masks_multiply():
    left, right = {"w": torch.tensor([0.5, 1.5])}, {"w": torch.tensor([2.0, 0.0])}
    assert product([left, right])["w"].tolist() == [1.0, 0.0]
    assert torch.equal(product([left])["w"], left["w"])
    assert rescaled(torch.tensor([1.0, 3.0])).tolist() == [0.5, 1.5]


# coefficients


def states(tiny):
    return [tiny.finetuned(task) for task in "ab"]


def test_equal_coefficients_and_a_mask_of_ones_are_task_arithmetic(tiny):
    blend = Blend(states(tiny), tiny.base())
    ones = {key: torch.ones_like(value) for key, value in tiny.base().items()}
    expected_state = tiny.base()
    for state in states(tiny):
        expected_state = add_task_vector(expected_state, task_vector(state, tiny.base()), 0.3)
    for per_tensor in (True, False):
        for mask in (None, ones):
            merged = blend.state(blend.coefficients(0.3, per_tensor), mask)
            assert all(torch.allclose(merged[k], v, atol=1e-6) for k, v in expected_state.items())


def test_a_mask_of_zeros_is_the_base_and_one_coefficient_moves_one_tensor(tiny):
    base, (left, _) = tiny.base(), states(tiny)
    blend = Blend(states(tiny), base)
    zeros = {key: torch.zeros_like(value) for key, value in base.items()}
    assert all(torch.equal(v, base[k]) for k, v in blend.state(blend.coefficients(1.0), zeros).items())
    lambda_tl = blend.coefficients(0.0)
    lambda_tl[0, 2] = 1.0
    merged, key = blend.state(lambda_tl), [*base][2]
    assert torch.allclose(merged[key], left[key], atol=1e-6)
    assert all(torch.equal(merged[k], base[k]) for k in base if k != key)


def test_half_precision_is_summed_in_single_and_integers_are_the_bases():
    base = {"w": torch.ones(2, dtype=torch.float16), "n": torch.tensor(7)}
    other = {"w": torch.full((2,), 2.0, dtype=torch.float16), "n": torch.tensor(9)}
    merged = Blend([other], base).state(torch.tensor([[0.5]]))
    assert merged["w"].dtype == torch.float16
    assert merged["w"].tolist() == [1.5, 1.5]
    assert merged["n"].item() == 7


def test_gradients_reach_coefficients_and_mask():
    """theta = theta0 + m (l1 t1 + l2 t2): d/dl_t = <g, m t_t>, d/dm = g (l1 t1 + l2 t2)."""
    base = {"w": torch.zeros(2)}
    blend = Blend([{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, -1.0])}], base)
    lambda_tl = torch.tensor([[0.5], [2.0]], requires_grad=True)
    mask = {"w": torch.tensor([2.0, 1.0], requires_grad=True)}
    (blend.weights(lambda_tl, mask)["w"] * torch.tensor([1.0, 10.0])).sum().backward()
    assert lambda_tl.grad.flatten().tolist() == [2 * 1 + 10 * 2, 2 * 3 - 10 * 1]
    assert mask["w"].grad.tolist() == [1 * 6.5, 10 * -1.0]


@pytest.mark.parametrize("per_tensor", [True, False])
def test_learning_lowers_the_entropy_and_leaves_the_start(tiny, per_tensor):
    view = MergingView(
        suite=tiny, base=tiny.base(), tasks=("a", "b"), generator=generator(), tier=Tier.UNLABELLED, examples={}
    )
    data = {task: tiny.load(task, "train")[:1] for task in "ab"}
    blend, objective = Blend(states(tiny), tiny.base()), entropies(view)
    start = blend.coefficients(0.8, per_tensor)
    found = learned(blend, start, data, objective, view, steps=30, lr=0.03, batch_size=16)

    def mean_entropy(lambda_tl):
        return objective(view.model(blend.state(lambda_tl)), data).item()

    assert mean_entropy(found) < mean_entropy(start) - 0.01
    assert found.shape == start.shape == ((2, len(blend.tau)) if per_tensor else (2, 1))
    assert (start == 0.8).all()
    assert not found.requires_grad


def test_batches_keep_inputs_and_labels_together():
    data = {"a": (torch.arange(5.0), torch.arange(5)), "b": (torch.arange(9.0),)}
    drawn = batch(data, 7, generator())
    assert torch.equal(drawn["a"][0], drawn["a"][1].float())
    assert {task: [len(part) for part in parts] for task, parts in drawn.items()} == {"a": [7, 7], "b": [7]}


def test_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    by_hand = (math.log(2) - (0.25 * math.log(0.25) + 0.75 * math.log(0.75))) / 2
    assert entropy(logits).item() == pytest.approx(by_hand, rel=1e-6)
