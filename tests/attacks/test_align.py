"""Aligners: exact optima, exact inverses, and functions left unchanged."""

from itertools import permutations
from types import SimpleNamespace

import pytest
import torch

from attacks.align.gauge_anchor import gauge_anchor
from attacks.align.scale_normalization import scale_normalization
from attacks.align.weight_matching import best_order, weight_matching
from bench.architecture import Element, Gauge
from defenses.protect.params import farthest_permutations, random_matrices


@pytest.fixture
def view(architecture_and_states):
    architecture, base, victim = architecture_and_states
    return SimpleNamespace(architecture=architecture, base=base, victim=victim)


def distance(left, right, keys=None):
    return sum((left[k] - right[k]).square().sum() for k in (keys or left))


def shuffled(view, seed=0):
    g = torch.Generator().manual_seed(seed)
    orders = {m.name: torch.randperm(m.width, generator=g) for m in view.architecture.mlps}
    return view.architecture.apply(view.victim, Element(orders, {}))


def rescaled(view, mode, seed=0):
    g = torch.Generator().manual_seed(seed)
    gauges = {
        a.name: Gauge(
            random_matrices(mode, a.kv_heads, a.width, g),
            random_matrices(mode, a.kv_heads, a.width, g),
            torch.arange(a.kv_heads),
        )
        for a in view.architecture.attentions
    }
    return view.architecture.apply(view.victim, Element({}, gauges))


def test_matching_is_optimal_by_brute_force_on_six_units():
    gain = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    best = max(sum(gain[i, p[i]] for i in range(6)) for p in permutations(range(6)))
    order = best_order(gain)
    assert gain[torch.arange(6), order].sum() == pytest.approx(float(best), abs=1e-12)


def test_matching_minimises_the_distance_by_brute_force_on_six_units(view):
    """On an MLP cut to six units, no permutation brings the weights nearer to the base."""
    group = view.architecture.mlps[0]
    base, other = group.units(view.base)[:6], group.units(shuffled(view))[:6]
    order = best_order(base @ other.T)
    nearest = min((base - other[list(p)]).square().sum() for p in permutations(range(6)))
    assert (base - other[order]).square().sum() == pytest.approx(float(nearest), rel=1e-12)


@pytest.mark.parametrize("similarity", ["raw", "cosine"])
def test_matching_undoes_a_permutation(view, similarity):
    back = weight_matching(shuffled(view), view, similarity=similarity)
    assert all(torch.equal(back[k], view.victim[k]) for k in back)


def test_matching_undoes_the_defense_own_permutation(view):
    moved = view.architecture.apply(
        view.victim, Element(farthest_permutations(view.architecture, view.base, view.victim), {})
    )
    keys = [k for m in view.architecture.mlps for k in m.keys]
    assert distance(moved, view.base, keys) > 2 * distance(view.victim, view.base, keys)
    back = weight_matching(moved, view)
    assert all(torch.equal(back[k], view.victim[k]) for k in back)


def test_the_defense_permutation_is_farthest_of_random_ones(view):
    group = view.architecture.mlps[0]
    base, victim = group.units(view.base), group.units(view.victim)
    farthest = farthest_permutations(view.architecture, view.base, view.victim)[group.name]
    g = torch.Generator().manual_seed(0)
    others = [(base - victim[torch.randperm(group.width, generator=g)]).square().sum() for _ in range(50)]
    assert (base - victim[farthest]).square().sum() >= max(others)


def test_scale_normalization_returns_the_base_from_the_rescaled_base(view):
    view.victim = view.base
    back = scale_normalization(rescaled(view, "diagonal"), view)
    for key, value in view.base.items():
        torch.testing.assert_close(back[key], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["diagonal", "symmetric", "nonsymmetric"])
def test_gauge_anchor_returns_the_base_from_the_transformed_base(view, mode):
    view.victim = view.base
    back = gauge_anchor(rescaled(view, mode), view)
    for key, value in view.base.items():
        torch.testing.assert_close(back[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("aligner", "mode"), [(scale_normalization, "diagonal"), (gauge_anchor, "nonsymmetric")])
def test_aligners_of_heads_do_not_depend_on_the_defense_draw(view, aligner, mode):
    """Whatever A and B were drawn, the aligned model is the one aligned from the unprotected victim."""
    plain, undone = aligner(view.victim, view), aligner(rescaled(view, mode), view)
    for key in plain:
        torch.testing.assert_close(undone[key], plain[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aligner", [weight_matching, scale_normalization, gauge_anchor])
def test_aligners_keep_the_function(family, aligner):
    from bench.architecture import architecture_of
    from conftest import outputs

    model, base = family(1), family(2)
    view = SimpleNamespace(
        architecture=architecture_of(model), base=dict(base.state_dict()), victim=dict(model.state_dict())
    )
    before = outputs(model)
    released = rescaled(view, "nonsymmetric")
    model.load_state_dict(aligner(released, view))
    torch.testing.assert_close(outputs(model), before, rtol=1e-6, atol=1e-6)


def test_a_head_of_zeros_keeps_its_gauge(view):
    group = view.architecture.attentions[0]
    dead = {k: v.clone() for k, v in view.victim.items()}
    group.q.write(dead, torch.zeros_like(group.q.read(dead)))
    for aligner in (scale_normalization, gauge_anchor):
        back = aligner(dead, view)
        assert all(torch.isfinite(v).all() for v in back.values())
        torch.testing.assert_close(group.k.read(back), group.k.read(dead))
