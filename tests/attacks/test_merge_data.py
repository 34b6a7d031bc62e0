"""Merges that read examples: against closed forms on one layer, and identities on a whole tower."""

import pytest
import torch
from torch import nn

from mergearena.attacks.merge.adamerging import AdaMerging
from mergearena.attacks.merge.fisher import diagonal_fisher, fisher
from mergearena.attacks.merge.regmean import gram_matrices, nearest, regmean
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.bench.errors import TierViolation
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.learning.coefficients import Blend, entropies, entropy
from mergearena.bench.learning.training import At
from mergearena.bench.merging.kernels import average
from mergearena.bench.players.tier import Tier
from tiny_suite import TinySuite


class OneLayer(TinySuite):
    """One linear layer whose outputs are the logits."""

    def __init__(self, *shape, bias=False):
        self.shape, self.bias = shape, bias

    def encoder(self):
        return nn.Linear(*self.shape, bias=self.bias).double().eval()

    def outputs(self, model, task, inputs):
        return model(inputs)


class Logistic(OneLayer):
    """p(y = 1 | x) = sigmoid(w x)."""

    def __init__(self, inputs):
        super().__init__(inputs, 1)

    def outputs(self, model, task, inputs):
        return torch.cat([torch.zeros(len(inputs), 1), model(inputs)], dim=1)


def view_of(suite, inputs, tier=Tier.UNLABELLED, seed=0):
    """A view whose tasks are those of ``inputs``; the merges below are given their models."""
    base = {k: torch.zeros_like(v) for k, v in suite.encoder().state_dict().items()}
    return AttackerView(
        suite=suite,
        base=base,
        tasks=tuple(inputs),
        generator=torch.Generator().manual_seed(seed),
        released=base,
        victim="a",
        donors={task: base for task in inputs if task != "a"},
        tier=tier,
        examples={t: (x.double(), torch.zeros(len(x), dtype=torch.int64)) for t, x in inputs.items()},
    )


def models(*rows):
    return {task: {"weight": torch.tensor(row, dtype=torch.float64)} for task, row in zip("abc", rows, strict=False)}


# fisher


def test_fisher_of_a_logistic_model_by_hand():
    """F = E_x x^2 p (1 - p); at p = 1/2 the drawn label does not matter: (y - p)^2 = 1/4."""
    x = torch.tensor([[1.0], [2.0], [3.0]])
    view = view_of(Logistic(1), {"a": x})
    assert diagonal_fisher(view.base, "a", x.double(), view, 1)["weight"].item() == pytest.approx(14 / 3 / 4)


def test_fisher_of_a_confident_logistic_model():
    x = torch.ones(20_000, 1).double()
    view = view_of(Logistic(1), {"a": x})
    p = torch.tensor(2.0).sigmoid().item()
    found = diagonal_fisher(models([[2.0]])["a"], "a", x[:4000], view, 1)["weight"].item()
    assert found == pytest.approx(p * (1 - p), rel=0.05)


def test_fisher_of_batches_has_the_same_mean():
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]]).double()
    view = view_of(Logistic(1), {"a": x})
    draws = [diagonal_fisher(view.base, "a", x, view, 4)["weight"].item() for _ in range(4000)]
    assert sum(draws) / len(draws) == pytest.approx(30 / 4 / 4, rel=0.06)
    assert max(draws) > 2 * 30 / 4 / 4  # that is noisier


def test_fisher_weighs_by_hand():
    """Both models are at p = 1/2 on their own inputs, so that F is x^2 / 4."""
    x = {"a": torch.tensor([[1.0, 1.0]]), "b": torch.tensor([[2.0, 2.0]])}
    merged = fisher(models([[1.0, -1.0]], [[-3.0, 3.0]]), view_of(Logistic(2), x), normalise=False, floor=1e-12)
    expected = torch.tensor([[1.0, -1.0]]) * (0.25 * 1 - 1.0 * 3) / (0.25 + 1.0)
    torch.testing.assert_close(merged["weight"], expected.double())


def test_fisher_that_is_normalised_forgets_how_confident_a_model_is():
    x = {"a": torch.tensor([[1.0, 1.0]]), "b": torch.tensor([[2.0, 2.0]])}
    merged = fisher(models([[1.0, -1.0]], [[-3.0, 3.0]]), view_of(Logistic(2), x))
    torch.testing.assert_close(merged["weight"], torch.tensor([[-1.0, 1.0]]).double())


@pytest.mark.parametrize("x", [torch.zeros(5, 2), torch.ones(5, 2)])
def test_fishers_that_are_zero_or_equal_give_the_mean(x):
    many = models([[1.0, -1.0]], [[-3.0, 3.0]], [[5.0, -5.0]])
    merged = fisher(many, view_of(Logistic(2), dict.fromkeys("abc", x)), normalise=False, batch_size=1)
    torch.testing.assert_close(merged["weight"], average(list(many.values()))["weight"])


def test_fisher_takes_an_entry_from_the_one_model_that_needs_it():
    """Model a reads the first input only, model b the second only."""
    x = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])}
    merged = fisher(models([[0.5, 7.0]], [[9.0, -0.25]]), view_of(Logistic(2), x))
    torch.testing.assert_close(merged["weight"], torch.tensor([[0.5, -0.25]]).double(), rtol=1e-4, atol=1e-4)


def test_fisher_of_a_tower_keeps_every_entry_between_the_models(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    many = {"a": view.released, **view.donors}
    before = {k: v.clone() for k, v in view.released.items()}
    merged = fisher(many, view)
    for key, value in merged.items():
        stack = torch.stack([state[key] for state in many.values()])
        assert ((value >= stack.amin(0) - 1e-6) & (value <= stack.amax(0) + 1e-6)).all()
        assert torch.equal(view.released[key], before[key])
    assert any(not torch.allclose(merged[k], average(list(many.values()))[k], atol=1e-5) for k in merged)


# regmean


def shapes(tokens=40):
    g = torch.Generator().manual_seed(0)
    x = {t: torch.randn(tokens, 5, generator=g, dtype=torch.float64) * torch.rand(5, generator=g) for t in "ab"}
    many = {
        t: {
            "weight": torch.randn(3, 5, generator=g, dtype=torch.float64),
            "bias": torch.randn(3, generator=g, dtype=torch.float64),
        }
        for t in "ab"
    }
    return x, many


def test_regmean_solves_its_least_squares():
    x, many = shapes()
    merged = regmean(many, view_of(OneLayer(5, 3, bias=True), x), off_diagonal=1.0)
    targets = torch.cat([x[t] @ many[t]["weight"].T for t in "ab"])
    expected = torch.linalg.lstsq(torch.cat([x["a"], x["b"]]), targets).solution.T
    torch.testing.assert_close(merged["weight"], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged["bias"], average(list(many.values()))["bias"])


def test_regmean_with_equal_grams_is_the_average():
    x, many = shapes()
    merged = regmean(many, view_of(OneLayer(5, 3, bias=True), dict.fromkeys("ab", x["a"])))
    torch.testing.assert_close(merged["weight"], average(list(many.values()))["weight"])


def test_regmean_without_off_diagonal_weighs_each_input_by_its_power():
    x, many = shapes()
    merged = regmean(many, view_of(OneLayer(5, 3, bias=True), x), off_diagonal=0.0)["weight"]
    power = {t: x[t].square().sum(0) for t in "ab"}
    expected = sum(power[t] * many[t]["weight"] for t in "ab") / sum(power.values())
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def test_regmean_averages_what_no_example_excites():
    x, many = shapes(tokens=2)
    for rows in x.values():
        rows[:, 3:] = 0
    merged = regmean(many, view_of(OneLayer(5, 3, bias=True), x), off_diagonal=1.0)["weight"]
    mean = average(list(many.values()))["weight"]
    torch.testing.assert_close(merged[:, 3:], mean[:, 3:], rtol=1e-5, atol=1e-5)
    # Four rows in three directions: not interpolated, but as near as can be, by the normal equations.
    residual = torch.cat([x[t] @ (merged - many[t]["weight"]).T for t in "ab"])
    torch.testing.assert_close(torch.cat([x["a"], x["b"]]).T @ residual, torch.zeros(5, 3).double(), rtol=0, atol=1e-4)


def test_regmean_of_inputs_that_are_all_zero_is_the_average():
    _, many = shapes()
    weights = [state["weight"] for state in many.values()]
    found = nearest(weights, [torch.zeros(5, 5).double()] * 2, 0.95)
    torch.testing.assert_close(found, torch.stack(weights).mean(0))


def test_regmean_of_one_model_twice_is_that_model(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    merged = regmean({"a": view.released, "b": view.released}, view)
    for key, value in view.released.items():
        torch.testing.assert_close(merged[key], value, rtol=1e-5, atol=1e-6)


def test_regmean_sees_every_matrix_of_the_map(attacker):
    """Fused attention too: its two projections are read though neither is called as a module."""
    view = attacker(tier=Tier.UNLABELLED)
    grams = gram_matrices(view.base, "a", view.unlabelled("a"), view)
    groups = [*(m.keys for m in view.architecture.mlps), *(a.keys for a in view.architecture.attentions)]
    assert {k for keys in groups for k in keys if view.base[k].ndim == 2} <= grams.keys()
    assert all(gram.shape == (view.base[k].shape[1],) * 2 for k, gram in grams.items())


def test_the_output_projection_reads_what_the_heads_compute():
    class Attention(OneLayer):
        def encoder(self):
            torch.manual_seed(0)
            return nn.MultiheadAttention(6, 2, batch_first=True).double().eval()

        def outputs(self, model, task, inputs):
            return model(inputs, inputs, inputs, need_weights=False)[0]

    suite, x = Attention(), torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1)).double()
    model = suite.encoder()
    state = {k: v.detach() for k, v in model.state_dict().items()}
    grams = gram_matrices(state, "a", x, view_of(suite, {"a": x}))
    projected = x @ model.in_proj_weight.detach().T + model.in_proj_bias.detach()
    q, k, v = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
    mixed = ((q @ k.mT / 3**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2).flatten(0, 1)
    rows = x.flatten(0, 1)
    by_shape = {"in": rows.T @ rows, "out": mixed.T @ mixed}
    torch.testing.assert_close(grams["in_proj_weight"], by_shape["in"])
    torch.testing.assert_close(grams["out_proj.weight"], by_shape["out"])


# adamerging


def parents(view):
    return {"a": view.released, **view.donors}


def mean_entropy(state, view):
    return sum(entropy(view.suite.predict(state, t, view.examples[t][0])).item() for t in view.tasks)


def cross_entropy(state, view):
    pairs = [(view.suite.predict(state, t, view.examples[t][0]), view.examples[t][1]) for t in view.tasks]
    return sum(nn.functional.cross_entropy(*pair).item() for pair in pairs)


@pytest.mark.parametrize("init", [None, 0.3])
def test_adamerging_starts_from_task_arithmetic(attacker, init):
    view = attacker(tier=Tier.UNLABELLED)
    merged = AdaMerging(steps=0, init=init).merge(parents(view), view)
    expected = TaskArithmetic(scale=init).merge(parents(view), view)
    for key, value in expected.items():
        torch.testing.assert_close(merged[key], value)


@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_adamerging_lowers_the_entropy(attacker, granularity):
    view = attacker(tier=Tier.UNLABELLED)
    before = {k: v.clone() for k, v in view.base.items()}
    start, end = (AdaMerging(steps=s, lr=0.1, granularity=granularity).merge(parents(view), view) for s in (0, 15))
    assert mean_entropy(end, view) < mean_entropy(start, view) - 0.01
    assert all(torch.equal(view.base[k], before[k]) for k in before)


def test_adamerging_lowers_the_cross_entropy(attacker):
    view = attacker(tier=Tier.LABELLED)
    start, end = (AdaMerging(steps=s, loss="cross-entropy").merge(parents(view), view) for s in (0, 15))
    assert cross_entropy(end, view) < cross_entropy(start, view) - 0.02


def test_coefficients_per_model_move_every_tensor_alike(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    merged = AdaMerging(steps=5, granularity="task", lr=0.05).merge(parents(view), view)
    found = []
    for key, base in view.base.items():
        tau = torch.stack([(state[key] - base).flatten() for state in parents(view).values()], dim=1).double()
        if len(tau) > 50:
            found.append(torch.linalg.lstsq(tau, (merged[key] - base).flatten()[:, None].double()).solution[:, 0])
    torch.testing.assert_close(torch.stack(found), found[0].expand(len(found), -1), rtol=1e-3, atol=1e-3)
    assert (found[0] - 0.8).abs().max() > 0.02


@pytest.mark.parametrize("per_tensor", [True, False])
def test_the_gradient_in_the_coefficients_agrees_with_finite_differences(attacker, per_tensor):
    class Double(TinySuite):
        def encoder(self):
            return super().encoder().double()

        def head(self, task):
            return super().head(task).double()

    seen = attacker()
    double = {t: {k: v.double() for k, v in state.items()} for t, state in parents(seen).items()}
    view = view_of(Double(), {t: seen.examples[t][0] for t in "ab"})
    view = AttackerView(**{**vars(view), "base": {k: v.double() for k, v in seen.base.items()}})
    blend, model = Blend(list(double.values()), view.base), view.model(view.base)
    groups = len(blend.tau) if per_tensor else 1
    coefficients = 0.8 + 0.1 * torch.randn(2, groups, generator=view.generator, dtype=torch.float64)
    data = {t: (view.examples[t][0],) for t in "ab"}

    def loss(at):
        return entropies(view)(At(model, blend.weights(at)), data)

    (gradient,) = torch.autograd.grad(loss(coefficients.requires_grad_()), [coefficients])
    for row, group in [(0, 0), (1, groups - 1), (1, groups // 2)]:
        step = torch.zeros_like(coefficients)
        step[row, group] = 1e-5
        with torch.no_grad():
            slope = (loss(coefficients + step) - loss(coefficients - step)) / 2e-5
        torch.testing.assert_close(gradient[row, group], slope, rtol=1e-4, atol=1e-7)


def test_entropy_by_hand():
    assert entropy(torch.zeros(4, 8)).item() == pytest.approx(torch.tensor(8.0).log().item())
    assert entropy(torch.tensor([[100.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


# all


def test_what_data_each_reads(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    fisher(parents(view), view, examples=4)
    assert view.reads.unlabelled == {"a": 4, "b": 4}
    view = attacker(tier=Tier.UNLABELLED)
    regmean(parents(view), view, examples=6)
    assert view.reads.unlabelled == {"a": 6, "b": 6}
    view = attacker(tier=Tier.LABELLED)
    AdaMerging(k=8, steps=1, loss="cross-entropy").merge(parents(view), view)
    assert (view.reads.labelled, view.reads.unlabelled) == ({"a": 8, "b": 8}, {})


def test_reading_beyond_the_tier_raises(attacker):
    view = attacker(tier=Tier.DATA_FREE)
    for merge in (fisher, regmean, AdaMerging().merge):
        with pytest.raises(TierViolation):
            merge(parents(view), view)
    view = attacker(tier=Tier.UNLABELLED)
    with pytest.raises(TierViolation):
        AdaMerging(loss="cross-entropy").merge(parents(view), view)
    assert AdaMerging().tier == Tier.UNLABELLED
    assert AdaMerging(loss="cross-entropy").tier == Tier.LABELLED
