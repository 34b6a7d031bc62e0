"""Merges matrix by matrix: optimality of their closed forms, fixed points, and which matrices they take."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergearena.attacks.merge.ace import ACE, row_covariance
from mergearena.attacks.merge.doge import DOGE, balance, change, shared
from mergearena.attacks.merge.iso import Iso
from mergearena.attacks.merge.regmean import nearest
from mergearena.attacks.merge.subspace_boosting import SubspaceBoosting, boosted
from mergearena.attacks.merge.tsv import TSV
from mergearena.attacks.merge.wudi import WUDI, weighted_grams
from mergearena.bench.errors import BadConfig

close = torch.testing.assert_close
seeds = st.integers(0, 2**31)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(shape):
    """``w`` is in the symmetry map, ``table`` is not."""
    base = {"w": torch.zeros(shape, dtype=torch.float64), "table": torch.zeros(shape, dtype=torch.float64)}
    return SimpleNamespace(
        base=base, architecture=SimpleNamespace(mlps=[SimpleNamespace(keys=("w",))], attentions=[], norms=())
    )


def merged(merge, *matrices):
    """Both tensors of the merge of task vectors that have the same matrix in both."""
    play = getattr(merge, "merge", merge)
    return play({str(i): {"w": m, "table": m} for i, m in enumerate(matrices)}, view(matrices[0].shape))


# which matrices


@pytest.mark.parametrize("make", [TSV, Iso, ACE, SubspaceBoosting, lambda **c: WUDI(form="closed", **c), WUDI])
def test_all_matrices_are_those_of_the_map_and_the_rest_alike(make):
    taus = [noise(6, 5, seed=seed) for seed in (1, 2, 3)]
    mapped, every = (merged(make(scale=1.0, matrices=which), *taus) for which in ("map", "all"))
    close(mapped["table"], sum(taus) / 3)
    close(every["w"], mapped["w"])
    close(every["table"], every["w"])
    assert not torch.allclose(every["table"], mapped["table"])


def test_merges_that_were_played_on_the_map_stay_there():
    assert [make().config.matrices for make in (TSV, Iso, ACE, WUDI)] == ["map", "map", "all", "all"]


# wudi


def interference(tau, taus):
    return sum(((tau - t) @ t.T).square().sum() / t.square().sum() for t in taus)


@given(seeds, st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_the_closed_form_of_wudi_has_no_gradient_left(seed, count):
    taus = [noise(4, 5, seed=seed + i) for i in range(count)]
    found = merged(WUDI(form="closed"), *taus)["w"].requires_grad_()
    (gradient,) = torch.autograd.grad(interference(found, taus), [found])
    close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


def test_wudi_goes_from_the_sum_to_the_closed_form():
    taus = [noise(4, 3, seed=seed) for seed in (1, 2)]
    close(merged(WUDI(steps=0), *taus)["w"], sum(taus))
    first, second, far = (merged(WUDI(steps=s, lr=1e-2), *taus)["w"] for s in (1, 20, 5000))
    close((first - sum(taus)).abs(), torch.full((4, 3), 1e-2).double(), rtol=1e-4, atol=0)  # a first step of Adam's
    assert interference(sum(taus), taus) > interference(second, taus) > interference(far, taus)
    close(far, merged(WUDI(form="closed"), *taus)["w"], rtol=1e-3, atol=1e-3)


def test_wudi_keeps_both_of_task_vectors_that_read_different_inputs():
    first, second = torch.zeros(2, 4).double(), torch.zeros(2, 4).double()
    first[:, :2], second[:, 2:] = noise(2, 2, seed=1), noise(2, 2, seed=2)
    for merge in (WUDI(form="closed"), WUDI()):
        close(merged(merge, first, second)["w"], first + second)


@pytest.mark.parametrize("merge", [WUDI(), WUDI(form="closed"), ACE(), DOGE(scale=1.0, density=1.0)])
def test_one_model_is_merged_to_itself(merge):
    tau = noise(4, 6)
    close(merged(merge, tau)["w"], tau, rtol=1e-9, atol=1e-9)


def test_grams_have_trace_one_or_are_zero():
    grams = weighted_grams(torch.stack([noise(3, 4), torch.zeros(3, 4).double()]))
    close(grams[0].trace(), torch.tensor(1.0).double())
    assert not grams[1].any()


def test_the_closed_form_takes_no_steps():
    with pytest.raises(BadConfig, match="takes no steps"):
        WUDI(form="closed", steps=10)


# ace


def test_ace_is_regmean_with_the_covariance_of_the_rows():
    taus = [noise(40, 5, seed=seed) for seed in (1, 2)]
    covariances = [torch.cov(tau.T, correction=0) for tau in taus]
    close(row_covariance(taus[0]), covariances[0])
    close(merged(ACE(epsilon=1e-6), *taus)["w"], nearest(taus, covariances, 1.0))


def test_ace_normalises_where_one_task_vector_is_longer():
    """Scaling one task vector scales its covariance: normalised, only its contribution grows."""
    short, long = noise(20, 4, seed=1), 10 * noise(20, 4, seed=2)
    weights = [row_covariance(t) / row_covariance(t).trace() for t in (short, long)]
    close(merged(ACE(), short, long)["w"], nearest([short, long], weights, 1.0, 1e-5))
    assert not torch.allclose(merged(ACE(heterogeneity=10), short, long)["w"], merged(ACE(), short, long)["w"])


# subspace boosting


def test_boosting_lifts_what_is_below_the_cut():
    s = torch.tensor([5.0, 3.0, 1.5, 0.5])
    close(boosted(s, 0.0), torch.full((4,), 5.0))
    close(boosted(s, 0.5), torch.full((4,), 5.0))  # 5 of 10 is reached at once
    close(boosted(s, 0.6), torch.tensor([5.0, 3.0, 3.0, 3.0]))
    close(boosted(s, 0.95), torch.tensor([5.0, 3.0, 1.5, 1.5]))
    close(boosted(s, 1.0), s)


def test_boosting_nothing_is_the_mean_and_boosting_all_is_isotropic():
    taus = [noise(5, 7, seed=seed) for seed in (1, 2)]
    close(merged(SubspaceBoosting(beta=1.0, scale=1.0), *taus)["w"], sum(taus) / 2)
    values = torch.linalg.svdvals(merged(SubspaceBoosting(beta=0.0, scale=1.0), *taus)["w"])
    close(values, torch.linalg.svdvals(sum(taus) / 2)[0].expand(5))


# doge


def gap(taus, weights, changed):
    """DOGE's objective, from its definition."""
    total = 0.0
    for j, tau in enumerate(taus):
        others = sum(w * (t + changed) for i, (w, t) in enumerate(zip(weights, taus, strict=True)) if i != j)
        total = total + (tau * others).square().sum()
    return total


def test_doge_descends_outside_of_the_shared_subspace():
    taus = torch.stack([noise(12, 8, seed=seed) for seed in (1, 2, 3)])
    weights, basis = balance(taus), shared(taus, 4)
    assert basis.shape == (12, 2)
    gaps = [gap(taus, weights, change(taus, weights, basis, steps)).item() for steps in (0, 1, 5, 400)]
    assert all(later < earlier for earlier, later in pairwise(gaps))
    changed = change(taus, weights, basis, 5000).requires_grad_()
    close(basis.T @ changed, torch.zeros(2, 8).double())
    (gradient,) = torch.autograd.grad(gap(taus, weights, changed), [changed])
    close(gradient - basis @ (basis.T @ gradient), torch.zeros_like(gradient), rtol=0, atol=1e-5)


def test_doge_without_steps_is_the_balanced_sum_of_the_largest_entries():
    first, second = torch.tensor([[3.0, 0.0, 4.0, 0.0]]).double(), torch.tensor([[0.0, 6.0, 0.0, 8.0]]).double()
    found = merged(DOGE(steps=0, density=0.25, scale=1.0), first, second)["w"]
    close(found, torch.tensor([[0.0, 0, 4 * 1.5, 8 * 0.75]]).double())
