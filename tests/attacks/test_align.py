"""Aligners: exact optima, exact inverses, and functions left unchanged."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mergearena.attacks.align.gauge_anchor import GaugeAnchor
from mergearena.attacks.align.scale_normalization import scale_normalization
from mergearena.attacks.align.weight_matching import WeightMatching
from mergearena.bench.errors import ArenaWarning
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.heads import Gauge
from mergearena.defenses.protect.gauges import random_matrices
from mergearena.defenses.protect.params import farthest_permutations


@pytest.fixture
def view(architecture_and_states):
    architecture, base, victim = architecture_and_states
    return SimpleNamespace(architecture=architecture, base=base, victim=victim)


gauge_anchor = GaugeAnchor().align
closed_form = GaugeAnchor(refine=0).align
weight_matching = WeightMatching().align


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
            random_matrices(mode, a.kv_heads, a.width, g, a.nearest_admissible),
            random_matrices(mode, a.kv_heads, a.width, g),
            torch.arange(a.kv_heads),
        )
        for a in view.architecture.attentions
    }
    return view.architecture.apply(view.victim, Element({}, gauges))


@pytest.mark.parametrize("similarity", ["raw", "cosine"])
def test_matching_undoes_a_permutation(view, similarity):
    back = WeightMatching(similarity=similarity).align(shuffled(view), view)
    assert all(torch.equal(back[k], view.victim[k]) for k in back)


def test_matching_to_a_donor_undoes_a_permutation_without_the_base(view):
    view.donors = {"d": view.base}
    view.base = {k: torch.zeros_like(v) for k, v in view.base.items()}
    back = WeightMatching(reference="donor").align(shuffled(view), view)
    assert all(torch.equal(back[k], view.victim[k]) for k in back)


def test_coordinate_descent_undoes_permutations_that_share_tensors(view):
    """Hidden units and residual stream at once: every MLP's tensors move with both."""
    stream, g = view.architecture.residual, torch.Generator().manual_seed(0)
    order = None if stream is None else torch.randperm(stream.width, generator=g)
    released = view.architecture.apply(shuffled(view), Element(residual=order))
    back = WeightMatching(residual=True).align(released, view)
    assert all(torch.equal(back[k], view.victim[k]) for k in back)
    assert stream is None or not torch.equal(
        weight_matching(released, view)[stream.keys[0]], view.victim[stream.keys[0]]
    )


def test_coordinate_descent_never_loses_similarity(view):
    stream, g = view.architecture.residual, torch.Generator().manual_seed(11)
    order = None if stream is None else torch.randperm(stream.width, generator=g)
    noisy = {k: v + torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in shuffled(view).items()}
    released = view.architecture.apply(noisy, Element(residual=order))
    distances = [
        distance(WeightMatching(residual=True, passes=n).align(released, view), view.base).item() for n in (1, 2, 3, 8)
    ]
    assert distances == pytest.approx(sorted(distances, reverse=True))
    assert distances[0] < distance(released, view.base)


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


@pytest.mark.parametrize("mode", ["diagonal", "symmetric", "nonsymmetric"])
def test_gauge_anchor_returns_the_base_from_the_transformed_base(view, mode):
    view.victim = view.base
    back = gauge_anchor(rescaled(view, mode), view)
    for key, value in view.base.items():
        torch.testing.assert_close(back[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("aligner", "mode"),
    [(scale_normalization, "diagonal"), (closed_form, "nonsymmetric"), (GaugeAnchor(refine=20).align, "nonsymmetric")],
)
def test_aligners_of_heads_do_not_depend_on_the_defense_draw(view, aligner, mode):
    """Whatever A and B were drawn, the aligned model is the one aligned from the unprotected victim."""
    plain, undone = aligner(view.victim, view), aligner(rescaled(view, mode), view)
    for key in plain:
        torch.testing.assert_close(undone[key], plain[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aligner", [weight_matching, scale_normalization, gauge_anchor])
def test_aligners_keep_the_function(family, aligner):
    from conftest import outputs
    from mergearena.bench.symmetry.architecture import architecture_of

    model, base = family(1), family(2)
    view = SimpleNamespace(
        architecture=architecture_of(model), base=dict(base.state_dict()), victim=dict(model.state_dict())
    )
    before = outputs(model)
    released = rescaled(view, "nonsymmetric")
    model.load_state_dict(aligner(released, view))
    torch.testing.assert_close(outputs(model), before, rtol=1e-6, atol=1e-6)


def dead_rows(view, *projections):
    """The victim with rows of some projections of its first attention layer set to zero."""
    dead = {k: v.clone() for k, v in view.victim.items()}
    group = view.architecture.attentions[0]
    for name, rows in projections:
        values = getattr(group, name).read(dead)
        values[:, rows] = 0
        getattr(group, name).write(dead, values)
    return group, dead


@pytest.mark.parametrize("method", ["least-squares", "norm-ratio"])
def test_scale_normalization_undoes_every_scale_of_the_base(view, method):
    """Head channels, linear branches of gated MLPs and norms, all rescaled at random."""
    view.victim, g = view.base, torch.Generator().manual_seed(1)

    def factors(groups):
        return {c.name: 0.05 + 5 * torch.rand(c.width, generator=g, dtype=torch.float64) for c in groups}

    element = Element({}, {}, factors(view.architecture.scales), factors(view.architecture.norms))
    back = scale_normalization(view.architecture.apply(rescaled(view, "diagonal"), element), view, method=method)
    for key, value in view.base.items():
        torch.testing.assert_close(back[key], value, rtol=1e-9, atol=1e-9)


def half_negative(groups):
    """A factor per channel, negative at every other."""
    g = torch.Generator().manual_seed(1)
    sizes = {c.name: 0.1 + torch.rand(c.width, generator=g, dtype=torch.float64) for c in groups}
    return {name: size * (-1.0) ** torch.arange(len(size)) for name, size in sizes.items()}


def test_scale_normalization_undoes_negative_scales(view):
    norms, branches = view.architecture.norms, view.architecture.scales
    element = Element(scales=half_negative(branches), norms=half_negative(norms))
    back = scale_normalization(view.architecture.apply(view.base, element), view)
    for key, value in view.base.items():
        torch.testing.assert_close(back[key], value, rtol=1e-9, atol=1e-9)


def test_scale_normalization_keeps_the_sign_of_a_norm_that_has_none_to_give(view):
    norms = view.architecture.norms
    released = view.architecture.apply(view.base, Element(norms=half_negative(norms)))
    view.architecture = replace(view.architecture, norms=tuple(replace(norm, signed=False) for norm in norms))
    back = scale_normalization(released, view)
    for key in {axis.key for norm in norms for axis in norm.times}:
        torch.testing.assert_close(back[key][1::2], released[key][1::2], rtol=0, atol=0)
        torch.testing.assert_close(back[key][::2], view.base[key][::2], rtol=1e-9, atol=1e-9)


def test_the_norm_ratio_does_not_look_at_directions(view):
    """Rows turned by an orthogonal matrix keep their norms, so that nothing is left to rescale."""
    turned = dict(view.base)
    group = view.architecture.attentions[0]
    turned.update({key: view.base[key].clone() for key in group.keys})
    group.q.write(turned, group.q.read(view.base).flip(-1))
    back = scale_normalization(turned, view, method="norm-ratio")
    torch.testing.assert_close(group.q.read(back), group.q.read(turned))


def test_a_channel_of_zeros_keeps_its_scale(view):
    group, dead = dead_rows(view, ("q", slice(None)))
    dead |= {axis.key: view.base[axis.key] for norm in view.architecture.norms for axis in norm.times}
    back = scale_normalization(dead, view)
    torch.testing.assert_close(group.k.read(back), group.k.read(dead))


def test_a_rank_deficient_head_is_solved_from_its_partner(view):
    """Q lacks two rows (a rotary pair); K is the base's, and its gauge is found from K alone."""
    group, dead = dead_rows(view, ("q", [0, view.architecture.attentions[0].width // 2]))
    group.k.write(dead, group.k.read(view.base))
    gauge = Gauge(
        random_matrices(
            "nonsymmetric", group.kv_heads, group.width, torch.Generator().manual_seed(0), group.nearest_admissible
        ),
        torch.eye(group.width, dtype=torch.float64).expand(group.kv_heads, -1, -1),
        torch.arange(group.kv_heads),
    )
    back = closed_form(view.architecture.apply(dead, Element({}, {group.name: gauge})), view)
    torch.testing.assert_close(group.k.read(back), group.k.read(view.base), rtol=1e-6, atol=1e-6)


def test_a_head_singular_on_both_sides_keeps_its_gauge_and_warns(view):
    group, dead = dead_rows(view, *((side, [0, view.architecture.attentions[0].width // 2]) for side in "qk"))
    with pytest.warns(ArenaWarning, match=f"rank-deficient heads keep their gauge: {group.name} head 0"):
        back = gauge_anchor(dead, view)
    for side in (group.q, group.k):
        torch.testing.assert_close(side.read(back), side.read(dead))
    assert all(torch.isfinite(v).all() for v in back.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_condition_number_of_a_million_is_undone_to_what_the_precision_holds(view, dtype):
    """A = U diag(1 .. 1e6) V: rounding to float32 loses up to 1e6 * 6e-8 of a row, float64 next to nothing."""
    g = torch.Generator().manual_seed(0)
    gauges = {}
    for a in view.architecture.attentions:
        u, v = (
            torch.linalg.qr(torch.randn(a.kv_heads, a.width, a.width, generator=g, dtype=torch.float64)).Q for _ in "uv"
        )
        matrix = u @ torch.diag(torch.logspace(0, 6, a.width, dtype=torch.float64)) @ v
        gauges[a.name] = Gauge(a.nearest_admissible(matrix), matrix, torch.arange(a.kv_heads))
    released = {k: v.to(dtype).double() for k, v in view.architecture.apply(view.victim, Element({}, gauges)).items()}
    plain, back = gauge_anchor(view.victim, view), gauge_anchor(released, view)
    keys = {k for a in view.architecture.attentions for k in a.keys}
    size = sum(plain[k].square().sum() for k in keys)
    assert distance(plain, back, keys) < (1e-2 if dtype == torch.float32 else 1e-12) * size


def test_a_model_without_attention_biases_or_with_zero_ones_is_aligned(view):
    zero = {k: torch.zeros_like(v) if "bias" in k else v for k, v in view.victim.items()}
    base = {k: torch.zeros_like(v) if "bias" in k else v for k, v in view.base.items()}
    view.base = base
    back = gauge_anchor(zero, view)
    assert all(torch.isfinite(v).all() for v in back.values())
    assert distance(back, base) <= distance(zero, base)


def test_the_joint_solution_is_no_farther_than_the_closed_form(view):
    released = rescaled(view, "nonsymmetric")
    distances = [distance(GaugeAnchor(refine=steps).align(released, view), view.base) for steps in range(6)]
    assert distances == sorted(distances, reverse=True)
    assert distances[5] < distances[0]


def test_the_joint_solution_is_stationary(view):
    """No small invertible map of a head brings it nearer: X = 0 solves the Gauss-Newton equations."""
    aligned = GaugeAnchor(refine=20).align(rescaled(view, "nonsymmetric"), view)
    for group in view.architecture.attentions:
        for first, second, admissible in (
            (group.q, group.k, group.nearest_admissible),
            (group.v, group.o, lambda maps: maps),
        ):
            q, k, q0, k0 = (
                p.read(s).unflatten(0, (group.kv_heads, -1)) for s in (aligned, view.base) for p in (first, second)
            )
            gradient = admissible(((q0 - q) @ q.mT).sum(1) + (k @ (k - k0).mT).sum(1))
            assert gradient.abs().max() < 1e-6 * (q @ q.mT).abs().max()
