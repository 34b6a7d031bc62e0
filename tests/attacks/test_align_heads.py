"""Aligners of attention heads: invariants of the gauge group, optima, and what each of them gives up."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from conftest import outputs
from mergearena.attacks.align.anchor import anchor, ridge_map
from mergearena.attacks.align.base_attention import base_attention
from mergearena.attacks.align.head_matching import head_matching, head_similarities
from mergearena.attacks.align.rotation_matching import nearest_rotation, rotation_matching
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.bench.symmetry.heads import Gauge


@pytest.fixture
def view(architecture_and_states):
    architecture, base, victim = architecture_and_states
    return SimpleNamespace(architecture=architecture, base=base, victim=victim)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def invertible(group, seed):
    """Random invertible A and B; A is one that the layer's rotary embeddings allow."""
    a, b = randn(2, group.kv_heads, group.width, group.width, seed=seed) + torch.eye(group.width)
    return group.nearest_admissible(a), b


def orthogonal(group, seed):
    a, b = invertible(group, seed)
    return nearest_rotation(a), nearest_rotation(b)


def gauged(view, state, draw=invertible, shuffle=False, seed=0):
    gauges = {}
    for group in view.architecture.attentions:
        order = torch.arange(group.kv_heads).roll(int(shuffle))
        gauges[group.name] = Gauge(*draw(group, seed), order)
    return view.architecture.apply(state, Element({}, gauges))


def assert_same(left, right, **tolerance):
    for key in left:
        torch.testing.assert_close(left[key], right[key], **(tolerance or {"rtol": 0, "atol": 0}))


def killed(view, *names):
    """The victim with some projections of its first attention layer's first head set to zero."""
    group, dead = view.architecture.attentions[0], {k: v.clone() for k, v in view.victim.items()}
    for name in names:
        rows = getattr(group, name).read(dead)
        rows[: group.heads // group.kv_heads if name in "qo" else 1] = 0
        getattr(group, name).write(dead, rows)
    return dead


def test_head_matching_undoes_a_shuffle_whatever_was_done_inside_the_heads(view):
    in_order, shuffled = (gauged(view, view.victim, shuffle=s) for s in (False, True))
    assert any(not torch.equal(in_order[k], shuffled[k]) for k in in_order)
    assert_same(head_matching(shuffled, view), in_order)


def test_head_matching_leaves_the_unprotected_victim_as_it_is(view):
    assert_same(head_matching(view.victim, view), view.victim)


def test_similarities_are_the_cosines_of_the_whole_circuits(view):
    """Against r x D matrices formed in full, query heads of one key/value head side by side."""
    for group in view.architecture.attentions:

        def circuits(state, group=group):
            q, o = (p.read(state).unflatten(0, (group.kv_heads, -1)) for p in (group.q, group.o))
            k, v = (p.weight.read(state)[:, None] for p in (group.k, group.v))
            return [(left.mT @ right).flatten(1) for left, right in ((q, k), (o, v))]

        wanted = sum(
            cosine_similarity(theirs[:, None], ours[None], dim=-1)
            for theirs, ours in zip(circuits(view.base), circuits(view.victim), strict=True)
        )
        torch.testing.assert_close(head_similarities(group, view.base, view.victim), wanted)


def test_similarities_do_not_see_gauges_nor_biases_that_attention_does_not_see(view):
    moved = gauged(view, view.victim)
    for group in view.architecture.attentions:
        for side in (group.k, group.v):
            if side.bias is not None:
                moved[side.bias.key] = moved[side.bias.key].clone()
                side.bias.write(moved, 100 + side.bias.read(moved))
        plain, seen = (head_similarities(group, view.base, state) for state in (view.victim, moved))
        torch.testing.assert_close(seen, plain, rtol=1e-8, atol=1e-8)


def test_rotation_matching_returns_the_base_from_the_rotated_base(view):
    rotated = gauged(view, view.base, orthogonal)
    assert any(not torch.allclose(rotated[k], view.base[k]) for k in rotated)
    assert_same(rotation_matching(rotated, view), view.base, rtol=1e-9, atol=1e-9)


def test_rotation_matching_does_not_depend_on_the_rotation_drawn(view):
    plain, undone = (rotation_matching(s, view) for s in (view.victim, gauged(view, view.victim, orthogonal)))
    assert_same(undone, plain, rtol=1e-8, atol=1e-8)


def head_distances(group, state, base, sides):
    """|X - X0|^2 of each key/value head, summed over some of its projections."""
    return sum(
        (getattr(group, s).read(state) - getattr(group, s).read(base))
        .unflatten(0, (group.kv_heads, -1))
        .square()
        .sum((1, 2, 3))
        for s in sides
    )


def test_no_allowed_rotation_comes_nearer_to_the_base(view):
    released = gauged(view, view.victim)
    best = rotation_matching(released, view)
    for seed in range(30):
        # Near the optimum as well as far from it: exp of a small admissible skew matrix, and a random rotation.
        def near(group, seed, size=0.1 if seed % 2 else 3.0):
            skew = [(x - x.mT) * size for x in invertible(group, seed)]
            return torch.matrix_exp(skew[0]), torch.matrix_exp(skew[1])

        other = gauged(view, best, near, seed=seed)
        for group in view.architecture.attentions:
            for sides in ("qk", "vo"):
                here, there = (head_distances(group, s, view.base, sides) for s in (best, other))
                assert (here <= there + 1e-9).all()


def test_both_sides_of_a_head_are_at_the_optimum(view):
    """Where R = I is the best rotation, Q0 Q^T + K0 K^T is symmetric and positive semi-definite."""
    back = rotation_matching(gauged(view, view.victim), view)
    for group in view.architecture.attentions:
        for sides in ("qk", "vo"):
            outer = 0
            for side in sides:
                x0, x = (getattr(group, side).read(s).unflatten(0, (group.kv_heads, -1)) for s in (view.base, back))
                outer = outer + torch.einsum("gmir,gmjr->gij", x0, x)
            outer = group.nearest_admissible(outer) if sides == "qk" else outer
            torch.testing.assert_close(outer, outer.mT, rtol=1e-9, atol=1e-9)
            assert (torch.linalg.eigvalsh(outer) > -1e-9).all()


def test_procrustes_satisfies_the_condition_of_an_optimum():
    """<R, M> is largest iff M R^T is symmetric and positive semi-definite, and then equals the nuclear norm."""
    m = randn(4, 6, 6)
    r = nearest_rotation(m)
    product = m @ r.mT
    torch.testing.assert_close(r @ r.mT, torch.eye(6, dtype=r.dtype).expand(4, -1, -1))
    torch.testing.assert_close(product, product.mT)
    assert (torch.linalg.eigvalsh(product) > 0).all()
    torch.testing.assert_close(product.diagonal(dim1=1, dim2=2).sum(1), torch.linalg.svdvals(m).sum(1))


def test_rotation_matching_cannot_undo_scaling(view):
    """Singular values stay as they were released."""
    released = gauged(view, view.victim)
    back = rotation_matching(released, view)
    for group in view.architecture.attentions:
        for side in (group.v, group.o):
            ours, theirs = (torch.linalg.svdvals(side.read(s)) for s in (back, released))
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("aligner", [head_matching, rotation_matching])
def test_they_keep_the_function(family, aligner):
    model, base = family(1), family(2)
    view = SimpleNamespace(architecture=architecture_of(model), base=dict(base.state_dict()))
    before = outputs(model)
    released = gauged(view, dict(model.state_dict()), shuffle=True)
    kept = {k: v.clone() for k, v in released.items()}
    model.load_state_dict(aligner(released, view))
    torch.testing.assert_close(outputs(model), before, rtol=1e-8, atol=1e-8)
    assert_same(released, kept)


@pytest.mark.parametrize("dead", ["q", "qk", "vo", "qkvo"])
def test_a_head_of_zeros_is_survived(view, dead):
    released = killed(view, *dead)
    for aligner in (head_matching, rotation_matching, anchor):
        back = aligner(released, view)
        assert all(torch.isfinite(v).all() for v in back.values())
        assert len(back) == len(released)
    for side in dead:
        first = getattr(view.architecture.attentions[0], side)
        assert not first.read(anchor(released, view))[0].any()


def test_a_base_whose_head_is_zero_is_survived(view):
    dead = SimpleNamespace(architecture=view.architecture, base=killed(view, *"qkvo"))
    for aligner in (head_matching, rotation_matching, anchor):
        assert all(torch.isfinite(v).all() for v in aligner(view.victim, dead).values())


def test_the_ridge_map_satisfies_the_normal_equations():
    x, x0 = randn(3, 5, 12, seed=1), randn(3, 5, 12, seed=2)
    for ridge in (1e-8, 0.3):
        t = ridge_map(x, x0, ridge)
        size = x.square().sum((1, 2))[:, None, None] / 5
        torch.testing.assert_close((t @ x - x0) @ x.mT + ridge * size * t, torch.zeros_like(t), rtol=0, atol=1e-10)


def test_square_matrices_lose_their_task_vector_to_least_squares():
    """The trap: as many rows as columns, and X is sent to X0 whatever it was."""
    x, x0 = randn(2, 6, 6, seed=1), randn(2, 6, 6, seed=2)
    assert (ridge_map(x, x0, 1e-8) @ x - x0).norm() < 1e-3 * (x - x0).norm()


def test_anchor_comes_nearer_than_any_gauge_and_breaks_the_function(family):
    model, base = family(1), family(2)
    victim = {k: torch.lerp(v, dict(model.state_dict())[k], 0.2) for k, v in base.state_dict().items()}
    view = SimpleNamespace(architecture=architecture_of(model), base=dict(base.state_dict()), victim=victim)
    anchored, rotated = anchor(victim, view), rotation_matching(victim, view)
    for group in view.architecture.attentions:
        for side in "qkvo":
            near, far = (head_distances(group, s, view.base, side) for s in (anchored, rotated))
            assert (near < far).all()
    model.load_state_dict(victim)
    before = outputs(model)
    model.load_state_dict(anchored)
    assert (outputs(model) - before).norm() > 1e-3 * before.norm()


def test_anchor_does_not_depend_on_what_was_drawn(view):
    g = torch.Generator().manual_seed(0)
    orders = {m.name: torch.randperm(m.width, generator=g) for m in view.architecture.mlps}
    released = view.architecture.apply(gauged(view, view.victim), Element(orders, {}))
    # To the ridge, which is relative to matrices that the draw has stretched.
    assert_same(anchor(released, view), anchor(view.victim, view), rtol=1e-3, atol=1e-3)


def test_base_attention_takes_attention_from_the_base_and_nothing_else(view):
    """Its biases too, the output projection's among them."""
    parts = ("attn.", "attention.self.", "attention.output.dense.")
    attention = {key for key in view.base if any(part in key for part in parts)}
    assert attention >= {key for group in view.architecture.attentions for key in group.keys}
    mixed = base_attention(gauged(view, view.victim), view)
    assert_same(mixed, {key: (view.base if key in attention else view.victim)[key] for key in mixed})


def test_base_attention_takes_the_mlps_too_where_it_is_told(view):
    """What is left of the victim: embeddings, norms and whatever is in no block."""
    parts = ("attn.", "attention.self.", "output.dense.", "intermediate.dense.", "mlp.")
    blocks = {key for key in view.base if any(part in key for part in parts)}
    mixed = base_attention(view.victim, view, mlps=True)
    assert_same(mixed, {key: (view.base if key in blocks else view.victim)[key] for key in mixed})
