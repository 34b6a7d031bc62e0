"""Assignment: the optimum by brute force and by SciPy, whatever the certificate; similarity: the definition."""

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from mergearena.bench.symmetry import assignment
from mergearena.bench.symmetry.assignment import assign, similarity


def gains(n, seed, decimals=None):
    values = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    return values if decimals is None else values.round(decimals=decimals)


def total(gain, order):
    return gain.double()[torch.arange(len(order)), order].sum().item()


@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_by_brute_force_on_six_units(seed):
    gain = gains(6, seed)
    best = max(total(gain, torch.tensor(p)) for p in permutations(range(6)))
    assert total(gain, assign(gain).order) == pytest.approx(best, abs=1e-12)


@given(st.integers(1, 40), st.integers(0, 10**6), st.sampled_from([None, 0, 1]))
def test_augmenting_attains_what_the_solver_does(n, seed, decimals):
    """Rounded gains have many equal entries, where ties and zero slacks are everywhere."""
    gain = gains(n, seed, decimals)
    best, columns = gain.max(1)
    order = torch.from_numpy(assignment._augment(gain.numpy(), best.double().numpy(), columns.numpy()))
    assert sorted(order.tolist()) == list(range(n))
    rows, solved = linear_sum_assignment(gain.double().numpy(), maximize=True)
    assert total(gain, order) == pytest.approx(gain.double().numpy()[rows, solved].sum(), abs=1e-9)


def test_distinct_row_maxima_are_certified():
    order = torch.tensor([2, 0, 3, 1])
    gain = torch.zeros(4, 4)
    gain[torch.arange(4), order] = 1.0
    found = assign(gain)
    assert (found.certificate, found.order.tolist()) == ("row-maxima", order.tolist())


def test_a_few_collisions_are_augmented_and_many_go_to_the_solver():
    n = 100
    gain = torch.eye(n) + 0.01 * gains(n, 0)
    gain[1, 0] = 3.0  # rows 0 and 1 both want column 0
    found = assign(gain)
    assert found.certificate == "potentials"
    assert found.order.tolist() == linear_sum_assignment(gain.numpy(), maximize=True)[1].tolist()
    assert assign(gains(n, 1)).certificate == "solver"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gains_must_be_finite(bad):
    gain = gains(4, 0)
    gain[1, 2] = bad
    with pytest.raises(ValueError, match="must be finite"):
        assign(gain)


def test_gains_must_be_square():
    with pytest.raises(ValueError, match="as many units as places"):
        assign(torch.zeros(3, 4))


@pytest.mark.parametrize("cosine", [False, True])
def test_similarity_is_the_inner_product_of_the_units(architecture_and_states, cosine):
    architecture, base, victim = architecture_and_states
    group = architecture.mlps[0]
    left, right = group.units(base), group.units(victim)
    if cosine:
        left, right = (torch.nn.functional.normalize(x) for x in (left, right))
    stale = torch.full((group.width, group.width), float("nan"), dtype=left.dtype)
    found = similarity(group, base, victim, cosine=cosine, out=stale)
    assert found is stale
    torch.testing.assert_close(found, left @ right.T)


def test_a_zero_unit_is_similar_to_nothing(architecture_and_states):
    architecture, base, _ = architecture_and_states
    group = architecture.mlps[0]
    dead = dict(base)
    for axis in group.axes:
        dead[axis.key] = dead[axis.key].clone()
        dead[axis.key].select(axis.dim, 0).zero_()
    assert similarity(group, base, dead, cosine=True)[:, 0].tolist() == [0.0] * group.width
