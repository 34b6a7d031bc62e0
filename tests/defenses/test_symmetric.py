"""Defenses that are symmetries: the function stays, the weights leave, and the matching aligner brings them back."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from conftest import FAMILIES, bert, computes, decoder, outputs, randomized
from mergearena.bench.errors import ArenaError, BadConfig
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.players.registry import registry
from mergearena.bench.symmetry.architecture import architecture_of
from mergearena.defenses.protect.gauges import bounded, random_orthogonal
from mergearena.defenses.protect.mergebarrier import energy, strongest

CHAIN = "mergelock+residual+shuffle-heads+params(scaling=nonsymmetric)"
PLAYS = {
    "mergelock": FAMILIES,
    "mergebarrier": FAMILIES,
    "mergebarrier(turn=false)": FAMILIES,
    "shuffle-heads": FAMILIES,
    "residual": ("open_clip", "llama", "qwen2"),
    "residual(mode=rotation)": ("llama", "qwen2"),
    "gated-scale": ("llama", "qwen2"),
    "gated-scale(norms=true)": ("open_clip", "llama", "qwen2"),
    CHAIN: ("open_clip", "llama", "qwen2"),
    "mergelock+shuffle-heads+params(scaling=nonsymmetric)": ("bert",),
    "shift(size=1)": ("open_clip", "bert"),
}


def qk_norm() -> nn.Module:
    return decoder("Qwen3")


def made(make, dtype=torch.float64, seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return randomized(make().to(dtype), seed)


def view_of(model, seed=0, base=None):
    state = {k: v.clone() for k, v in model.state_dict().items()}
    return SimpleNamespace(
        architecture=architecture_of(model),
        base=base or state,
        generator=torch.Generator().manual_seed(seed),
    )


def released(defense, model, seed=0):
    return parse_defense(defense).protect(dict(model.state_dict()), view_of(model, seed))


def aligned(aligners, state, view):
    for aligner in parse_attack(f"{aligners} > average").aligners:
        state = aligner.align(state, view)
    return state


def distance(left, right) -> float:
    return sum((left[k] - right[k]).square().sum().item() for k in right) ** 0.5


def assert_same(left, right, tolerance=1e-9):
    assert left.keys() == right.keys()
    for key in right:
        torch.testing.assert_close(left[key], right[key], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("defense", "name"), [(d, f) for d, names in PLAYS.items() for f in names])
def test_the_function_stays_and_the_weights_leave(defense, name):
    assert parse_defense(defense).preserves_function
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        model = made(FAMILIES[name], dtype)
        victim, before = {k: v.clone() for k, v in model.state_dict().items()}, outputs(model)
        state = released(defense, model)
        assert_same(model.state_dict(), victim, 0)  # not modified in place
        assert {k: (v.shape, v.dtype) for k, v in state.items()} == {k: (v.shape, v.dtype) for k, v in victim.items()}
        assert distance(state, victim) > 0.1 * distance(victim, {k: torch.zeros_like(v) for k, v in victim.items()})
        assert (computes(model, state) - before).abs().max() <= tolerance * before.abs().max()


@pytest.mark.parametrize("defense", [d for d in PLAYS if "turn=false" not in d])
def test_the_generator_decides_the_draw(defense):
    make = FAMILIES[next(iter(PLAYS[defense]))]
    first, again, other = (released(defense, made(make), seed) for seed in (1, 1, 2))
    assert_same(again, first, 0)
    assert distance(other, first) > 0


UNDONE = {
    "mergelock": "gauge-anchor",
    "mergebarrier": "rotation-matching",
    "shuffle-heads": "head-matching",
    "residual": "residual-matching",
    "gated-scale": "scale-normalization",
    "gated-scale(norms=true)": "scale-normalization",
    CHAIN: "residual-matching+head-matching+weight-matching+gauge-anchor",
    f"gated-scale(norms=true)+{CHAIN}": (
        "residual-matching+head-matching+weight-matching+scale-normalization+gauge-anchor"
    ),
}


@pytest.mark.parametrize("defense", UNDONE)
def test_the_matching_aligner_returns_the_base_from_the_protected_base(defense):
    model = made(decoder)
    view = view_of(model)
    state = released(defense, model)
    assert distance(state, view.base) > 1
    assert_same(aligned(UNDONE[defense], state, view), view.base, 1e-6)


@pytest.mark.parametrize("make", [FAMILIES["open_clip"], bert])
@pytest.mark.parametrize("defense", ["shift", "shift(size=1)+mergelock", "mergelock+shift"])
def test_shifts_are_taken_back_before_and_after_gauges(defense, make):
    model = made(make)
    view = view_of(model)
    state = released(defense, model)
    chain = "shift-anchor(to=zero)+gauge-anchor+shift-anchor+gauge-anchor+shift-anchor"
    assert distance(state, view.base) > 1
    assert distance(aligned(chain, state, view), view.base) < 1e-2 * distance(state, view.base)


def test_a_model_without_shifts_is_refused():
    with pytest.raises(ArenaError, match="no LayerNorm and no free bias"):
        released("shift", made(decoder))


def test_a_rotated_stream_is_turned_back_once_its_norms_are_unfolded():
    model = made(decoder)
    view = view_of(model)
    undone = aligned("residual-matching", released("residual(mode=rotation)", model), view)
    assert_same(undone, view.base, 1e-6)


def test_scale_normalization_restores_the_distance_to_the_base():
    """With a task vector between victim and base the distance returns to no more than the victim's, up to its size."""
    base, model = made(decoder).state_dict(), made(decoder)
    g = torch.Generator().manual_seed(3)
    model.load_state_dict({k: v + 0.02 * torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in base.items()})
    view = view_of(model, base={k: v.clone() for k, v in base.items()})
    far = parse_defense("gated-scale").protect(dict(model.state_dict()), view)
    own = distance(model.state_dict(), base)
    assert distance(far, base) > 10 * own
    assert distance(aligned("scale-normalization", far, view), base) <= 1.05 * own


def gauge_of(defense, side, model, seed=0):
    """The maps (g x d x d) that a defense applied to one side of the first attention layer."""
    group, state = architecture_of(model).attentions[0], model.state_dict()
    before, after = (
        side_rows.unflatten(0, (group.kv_heads, -1)).movedim(1, 2).flatten(2)
        for side_rows in (getattr(group, side).read(s) for s in (state, released(defense, model, seed)))
    )
    return after @ torch.linalg.pinv(before)


@pytest.mark.parametrize("make", [bert, decoder])
def test_mergelock_mixes_channels_within_its_condition_number(make):
    model = made(make)
    for defense, limit in (("mergelock", 100), ("mergelock(spread=100, condition=50)", 50)):
        for side in "qv":
            maps = gauge_of(defense, side, model)
            assert (torch.linalg.cond(maps) <= 1.001 * limit).all()
            off = maps - torch.diag_embed(maps.diagonal(dim1=1, dim2=2))
            assert (torch.linalg.matrix_norm(off) > 0.1 * torch.linalg.matrix_norm(maps)).all()


def test_mergelock_leaves_what_is_not_attention():
    model = made(FAMILIES["open_clip"])
    state, keys = released("mergelock", model), {k for a in architecture_of(model).attentions for k in a.keys}
    assert {k for k, v in model.state_dict().items() if not torch.equal(v, state[k])} == keys


def test_mergelock_locks_only_values_where_queries_are_normalised():
    model = made(qk_norm)
    state, group = released("mergelock", model), architecture_of(model).attentions[0]
    changed = [
        s for s in "qkvo" if not torch.equal(getattr(group, s).read(state), getattr(group, s).read(model.state_dict()))
    ]
    assert changed == ["v", "o"]


@pytest.mark.parametrize("make", [bert, decoder])
def test_mergebarrier_moves_queries_and_keys_by_one_orthogonal_map(make):
    model = made(make)
    q, k = (gauge_of("mergebarrier", side, model) for side in "qk")
    torch.testing.assert_close(q, k, rtol=1e-8, atol=1e-8)
    eye = torch.eye(q.shape[-1], dtype=q.dtype).expand_as(q)
    torch.testing.assert_close(q @ q.mT, eye, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("turn", ["true", "false"])
def test_mergebarrier_reverses_the_strongest_directions(turn):
    """P u = -u for the top eigenvectors u of Q Q^T + K K^T, whatever the others do."""
    model = made(bert)
    group = architecture_of(model).attentions[0]
    p_gdd = gauge_of(f"mergebarrier(fraction=0.25, turn={turn})", "q", model)
    u_gdd = torch.linalg.eigh(energy(group, model.state_dict())).eigenvectors[..., -2:]
    torch.testing.assert_close(p_gdd @ u_gdd, -u_gdd, rtol=1e-7, atol=1e-7)


def test_the_flip_moves_farther_than_any_other_reflection_of_as_many_directions():
    model = made(bert)
    group, state = architecture_of(model).attentions[0], model.state_dict()
    value_gd = torch.linalg.eigvalsh(energy(group, state))
    flipped = released("mergebarrier(fraction=0.25, turn=false)", model)
    moved = sum((getattr(group, s).read(flipped) - getattr(group, s).read(state)).square().sum((1, 2)) for s in "qk")
    torch.testing.assert_close(moved, 4 * value_gd[:, -2:].sum(1))  # two of eight directions
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        u, _ = torch.linalg.qr(torch.randn(group.width, 2, generator=g, dtype=torch.float64))
        assert (4 * (energy(group, state) @ u * u).sum((1, 2)) <= moved).all()


@pytest.mark.parametrize("make", [bert, decoder])
def test_a_flip_without_a_secret_is_undone_by_running_it_again(make):
    model = made(make)
    for turn, undone in (("false", True), ("true", False)):
        chain = "+".join([f"mergebarrier(turn={turn})"] * 2)
        left = distance(released(chain, model), model.state_dict())
        assert (left < 1e-9) == undone


def test_a_merge_keeps_a_known_share_of_the_flipped_logits():
    """theta0 + c (P theta0 - theta0) multiplies Q and K along U by 1 - 2c, and their logits by its square."""
    model = made(bert)
    group, state = architecture_of(model).attentions[0], model.state_dict()
    flipped, c = released("mergebarrier(fraction=1)", model), 0.8
    q, k, q1, k1 = (p.read(s) for s in (state, flipped) for p in (group.q, group.k))
    merged = (q + c * (q1 - q)).mT @ (k + c * (k1 - k))
    torch.testing.assert_close(merged, (1 - 2 * c) ** 2 * q.mT @ k)


def test_equal_eigenvalues_are_flipped_together():
    """Under rotary embeddings every eigenvalue comes twice; half a pair would not commute with the rotations."""
    top = strongest(torch.diag(torch.tensor([5.0, 2, 1, 5, 2, 1], dtype=torch.float64)), 3)
    assert torch.equal(top, torch.diag(torch.tensor([1.0, 1, 0, 1, 1, 0], dtype=torch.float64)))


def test_random_orthogonal_keeps_what_it_is_told_to():
    g = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(6, 2, generator=g, dtype=torch.float64))
    w = random_orthogonal(6, g, keeping=u @ u.T)
    torch.testing.assert_close(w @ w.T, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(w @ u, u)
    assert torch.linalg.matrix_norm(w - torch.eye(6)) > 0.5


def test_bounded_raises_small_singular_values_and_nothing_else():
    diagonal = torch.diag(torch.tensor([10.0, 1, 0.01], dtype=torch.float64))
    torch.testing.assert_close(bounded(diagonal, 100), torch.diag(torch.tensor([10.0, 1, 0.1], dtype=torch.float64)))
    torch.testing.assert_close(bounded(diagonal, 1e4), diagonal)
    group = architecture_of(made(decoder)).attentions[0]
    maps = group.nearest_admissible(torch.randn(3, 4, 4, dtype=torch.float64))
    turned = bounded(maps, 1.5)
    torch.testing.assert_close(group.nearest_admissible(turned), turned)


@pytest.mark.parametrize("make", [bert, decoder])
def test_heads_are_shuffled_whole_and_never_left_in_place(make):
    model = made(make)
    group, state = architecture_of(model).attentions[0], model.state_dict()
    orders = set()
    for seed in range(12):
        moved = released("shuffle-heads", model, seed)
        before, after = (
            torch.cat(
                [p.read(s).unflatten(0, (group.kv_heads, -1)).flatten(1) for p in (group.q, group.k, group.v, group.o)],
                1,
            )
            for s in (state, moved)
        )
        order = tuple(next(i for i, row in enumerate(before) if torch.equal(row, head)) for head in after)
        assert sorted(order) == list(range(group.kv_heads))
        orders.add(order)
    assert tuple(range(group.kv_heads)) not in orders
    assert len(orders) > 1 or group.kv_heads == 2


def test_a_permuted_stream_only_reorders_every_tensor():
    model = made(FAMILIES["open_clip"])
    state = released("residual", model)
    for key, value in model.state_dict().items():
        assert torch.equal(state[key].flatten().sort().values, value.flatten().sort().values)


def test_gated_scale_stays_within_its_spread_and_leaves_the_gate():
    model = made(decoder)
    group, before = architecture_of(model).scales[0], model.state_dict()
    after = released("gated-scale(spread=3)", model)
    up, down = ((axes[0].rows(after) / axes[0].rows(before)) for axes in (group.times, group.over))
    torch.testing.assert_close(up * down[:, :1], torch.ones_like(up))
    assert (up > 1 / 3).all()
    assert (up < 3).all()
    assert {k for k in before if not torch.equal(after[k], before[k])} == {
        k for s in architecture_of(model).scales for k in s.keys
    }


def one_head() -> nn.Module:
    from open_clip.model import _build_vision_tower

    return _build_vision_tower(
        12, {"layers": 1, "width": 8, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 7, "image_size": 14}
    )


REFUSED = {
    "residual": (bert, "this bert model has no known symmetry.*use shuffle-heads, mergelock or params"),
    "residual(mode=rotation)": (FAMILIES["open_clip"], "this open_clip model may be permuted.*use mode=permutation"),
    "gated-scale": (FAMILIES["open_clip"], "this open_clip model has no gated or ReLU MLP.*set norms=true"),
    "gated-scale(norms=true)": (bert, "this bert model has no gated.*neither have its norms; use params"),
    "mergebarrier": (qk_norm, "normalises its queries and keys.*use mergelock"),
    "shuffle-heads": (one_head, "single key/value head.*use mergelock or params"),
}


@pytest.mark.parametrize("defense", REFUSED)
def test_a_model_without_the_symmetry_is_one_clear_error(defense):
    make, message = REFUSED[defense]
    with pytest.raises(ArenaError, match=message):
        released(defense, made(make))


def test_a_tied_head_forbids_to_rotate_but_not_to_permute():
    model = made(lambda: decoder(tie_word_embeddings=True))
    released("residual", model)
    with pytest.raises(ArenaError, match="tied"):
        released("residual(mode=rotation)", model)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("mergelock", {"spread": 0.5}),
        ("mergelock", {"condition": 1e5}),
        ("mergebarrier", {"fraction": 0}),
        ("residual", {"mode": "shear"}),
        ("gated-scale", {"spread": 1}),
    ],
)
def test_configs_out_of_range_are_refused(name, config):
    with pytest.raises(BadConfig, match=next(iter(config))):
        registry.find(name, "defense")(**config)
