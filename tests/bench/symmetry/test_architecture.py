"""The symmetry map: group elements leave the function unchanged, and their inverses the weights."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import (
    bert,
    close,
    computes,
    decoder,
    outputs,
    random_element,
    random_rotation,
    randomized,
    vision_tower,
)
from mergearena.bench.errors import ArenaError
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.bench.symmetry.heads import Gauge

KINDS = ("permutation", "scale", "invertible", "head-order", "units", "norms", "residual", "everything")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31))
def test_an_element_keeps_the_function_and_its_inverse_the_weights(family, kind, seed):
    model = family(seed % 5)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    architecture = architecture_of(model)
    lacking = {"units": not architecture.scales, "norms": not architecture.norms, "residual": not architecture.residual}
    if lacking.get(kind):
        pytest.skip(f"{architecture.family} has no such symmetry")
    before = outputs(model)
    element = random_element(architecture, kind, seed)

    moved = architecture.apply(state, element)
    back = architecture.apply(moved, element.inverse())

    close(computes(model, moved), before)
    for key, value in state.items():
        close(back[key], value)
    assert any(not torch.equal(moved[k], state[k]) for k in state)


def test_float32_agrees_to_1e_4(family):
    model = family(3, torch.float32)
    architecture = architecture_of(model)
    before = outputs(model)
    after = computes(model, architecture.apply(dict(model.state_dict()), random_element(architecture, "everything", 5)))
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()


def test_apply_leaves_its_input_alone(family):
    model = family(1)
    state = model.state_dict()
    copy = {k: v.clone() for k, v in state.items()}
    architecture = architecture_of(model)
    architecture.apply(state, random_element(architecture, "everything", 1))
    assert all(torch.equal(state[k], copy[k]) for k in copy)


def test_the_neutral_element_copies_nothing(family):
    model = family(1)
    state = model.state_dict()
    architecture = architecture_of(model)
    moved = architecture.apply(state, Element({}, {a.name: Gauge.identity(a) for a in architecture.attentions}))
    assert all(moved[k] is state[k] for k in state)


def test_every_weight_of_a_block_belongs_to_a_group(family):
    model = family()
    architecture = architecture_of(model)
    covered = {key for group in (*architecture.mlps, *architecture.attentions) for key in group.keys}
    places = (".resblocks.", ".layer.", ".layers.")
    in_blocks = {k for k, v in model.state_dict().items() if any(place in k for place in places) and v.ndim == 2}
    assert in_blocks <= covered


@pytest.mark.parametrize("make", [decoder, lambda: decoder(attention_bias=True, mlp_bias=True)])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_rotation_keeps_the_function_and_folds_the_norms(make, seed):
    model = randomized(make().double(), seed % 5)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    architecture = architecture_of(model)
    rotation = random_rotation(architecture.residual.width, torch.Generator().manual_seed(seed))
    before = outputs(model)
    element = random_element(architecture, "everything", seed)
    element = Element(element.permutations, element.gauges, element.scales, element.norms, rotation)

    moved = architecture.apply(state, element)
    folded = architecture.apply(state, Element(residual=torch.eye(len(rotation), dtype=torch.float64)))
    back = architecture.apply(moved, element.inverse())

    close(computes(model, moved), before)
    for key in state:
        close(back[key], folded[key])
    for norm in architecture.norms:
        assert (moved[norm.times[0].key] == 1).all()
        weight = state[norm.times[0].key]
        assert all(torch.equal(folded[axis.key], state[axis.key] * weight) for axis in norm.over)


def test_a_rotation_in_float32_agrees_to_1e_4():
    model = randomized(decoder(), 2)
    architecture = architecture_of(model)
    before = outputs(model)
    rotation = random_rotation(architecture.residual.width, torch.Generator().manual_seed(0))
    after = computes(model, architecture.apply(model.state_dict(), Element(residual=rotation)))
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()


def turn(angle):
    """The rotary embedding of one position as a matrix: channels i and i + d/2 turn by angle i."""
    c, s = angle.cos().diag(), angle.sin().diag()
    return torch.cat([torch.cat([c, -s], 1), torch.cat([s, c], 1)])


def test_rotary_maps_are_those_that_commute_with_every_turn():
    group = architecture_of(decoder()).attentions[0]
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4, 4, generator=g, dtype=torch.float64)
    nearest = group.nearest_admissible(maps)
    rotation = turn(torch.tensor([0.7, 2.1], dtype=torch.float64))
    close(nearest @ rotation, rotation @ nearest)
    assert not torch.allclose(maps @ rotation, rotation @ maps)
    close(group.nearest_admissible(nearest), nearest)
    # Nearest in Frobenius norm: what is cut off is orthogonal to every admissible map.
    other = group.nearest_admissible(torch.randn(2, 4, 4, generator=g, dtype=torch.float64))
    close(((maps - nearest) * other).sum((1, 2)), torch.zeros(2, dtype=torch.float64))
    assert other.count_nonzero() == 2 * 8


def test_the_model_turns_the_pairs_that_the_map_assumes():
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    angle = torch.tensor([0.7, 2.1], dtype=torch.float64)
    q = torch.randn(1, 1, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = torch.cat([angle, angle])[None, None]
    turned, _ = apply_rotary_pos_emb(q, q, wide.cos(), wide.sin())
    close(turned.flatten(), turn(angle) @ q.flatten())


def test_other_maps_of_queries_and_keys():
    maps = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    free = architecture_of(vision_tower()).attentions[0]
    assert free.nearest_admissible(maps) is maps
    fixed = architecture_of(decoder("Qwen3")).attentions[0]
    assert torch.equal(fixed.nearest_admissible(maps), torch.eye(4).expand(2, 4, 4))


@pytest.mark.parametrize("name", ["Llama", "Qwen3"])
def test_a_map_that_does_not_commute_is_refused(name):
    model = decoder(name)
    architecture = architecture_of(model)
    group = architecture.attentions[0]
    eye = Gauge.identity(group)
    bad = Gauge(torch.diag_embed(torch.tensor([[1.0, 2.0, 3.0, 4.0]]).expand(2, -1)), eye.b, eye.order)
    with pytest.raises(ArenaError, match="nearest_admissible"):
        architecture.apply(model.state_dict(), Element({}, {group.name: bad}))


def test_relu_units_scale_but_keep_their_sign():
    architecture = architecture_of(bert(hidden_act="relu"))
    state = bert(hidden_act="relu").state_dict()
    group = architecture.scales[0]
    with pytest.raises(ArenaError, match="finite and positive"):
        architecture.apply(state, Element(scales={group.name: -torch.ones(group.width)}))
    assert architecture_of(bert()).scales == ()


def test_signs_of_a_gated_branch_cancel():
    model = randomized(decoder().double(), 0)
    architecture, before = architecture_of(model), outputs(model)
    flips = {s.name: (-1.0) ** torch.arange(s.width) for s in architecture.scales}
    close(computes(model, architecture.apply(model.state_dict(), Element(scales=flips))), before)


def test_permuting_a_stream_that_is_not_known_is_refused():
    with pytest.raises(ArenaError, match="leave Element"):
        architecture_of(bert()).apply(bert().state_dict(), Element(residual=torch.arange(24)))


@pytest.mark.parametrize("make", [vision_tower, lambda: decoder(tie_word_embeddings=True)])
def test_a_stream_that_may_only_be_permuted_is_not_rotated(make):
    model = make()
    architecture = architecture_of(model)
    assert not architecture.residual.rotation
    eye = torch.eye(architecture.residual.width, dtype=torch.float64)
    with pytest.raises(ArenaError, match="permuted, not rotated"):
        architecture.apply(model.state_dict(), Element(residual=eye))


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (Element(residual=torch.zeros(16, dtype=torch.int64)), "holds each of 0..15 once"),
        (Element(residual=torch.arange(15)), "holds each of 0..15 once"),
        (Element(residual=2 * torch.eye(16, dtype=torch.float64)), "orthogonal 16 x 16"),
        (Element(scales={"model.layers.0.mlp": torch.zeros(24)}), "24 of them not allowed"),
        (Element(norms={"model.norm": torch.ones(15)}), "takes 16 factors"),
        (Element({"nowhere": torch.arange(3)}), "no MLP 'nowhere'; it has: model.layers.0.mlp, model.layers.1.mlp"),
    ],
)
def test_what_is_not_an_element_is_refused(element, message):
    model = decoder()
    with pytest.raises(ArenaError, match=message):
        architecture_of(model).apply(model.state_dict(), element)


def test_units_of_permuted_weights_are_permuted_units(architecture_and_states):
    architecture, base, _ = architecture_and_states
    g = torch.Generator().manual_seed(0)
    group = architecture.mlps[0]
    order = torch.randperm(group.width, generator=g)
    close(group.units(architecture.apply(base, Element({group.name: order}))), group.units(base)[order])
    if architecture.residual is not None:
        order = torch.randperm(architecture.residual.width, generator=g)
        moved = architecture.apply(base, Element(residual=order))
        close(architecture.residual.units(moved), architecture.residual.units(base)[order])
