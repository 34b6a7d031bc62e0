"""The symmetry map: group elements leave the function unchanged, and their inverses the weights."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bench.architecture import Element, Gauge, architecture_of
from bench.errors import UnsupportedArchitecture
from conftest import FAMILIES, outputs, randomized

KINDS = ("permutation", "scale", "invertible", "head-order", "everything")


def random_element(architecture, kind, seed):
    g = torch.Generator().manual_seed(seed)
    permutations, gauges = {}, {}
    for group in architecture.mlps:
        if kind in ("permutation", "everything"):
            permutations[group.name] = torch.randperm(group.width, generator=g)
    for group in architecture.attentions:
        element = Gauge.identity(group)
        shape = (group.kv_heads, group.width)
        a, b, order = element.a, element.b, element.order
        if kind == "scale":
            a, b = (torch.diag_embed(0.2 + 3 * torch.rand(shape, generator=g, dtype=torch.float64)) for _ in "ab")
        if kind in ("invertible", "everything"):
            noise = [torch.randn(*shape, group.width, generator=g, dtype=torch.float64) for _ in "ab"]
            stretch = [torch.diag_embed(0.3 + torch.rand(shape, generator=g).double()) for _ in "ab"]
            a, b = (torch.linalg.qr(n).Q @ s for n, s in zip(noise, stretch, strict=True))
        if kind in ("head-order", "everything"):
            order = torch.arange(group.kv_heads).roll(1 + seed % (group.kv_heads - 1))  # never the identity
        gauges[group.name] = Gauge(a, b, order)
    return Element(permutations, gauges)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31))
def test_an_element_keeps_the_function_and_its_inverse_the_weights(family, kind, seed):
    model = family(seed % 5)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    architecture = architecture_of(model)
    before = outputs(model)
    element = random_element(architecture, kind, seed)

    moved = architecture.apply(state, element)
    back = architecture.apply(moved, element.inverse())

    model.load_state_dict(moved)
    torch.testing.assert_close(outputs(model), before, rtol=1e-10, atol=1e-10)
    for key, value in state.items():
        torch.testing.assert_close(back[key], value, rtol=1e-10, atol=1e-10)
    assert any(not torch.equal(moved[k], state[k]) for k in state)


def test_float32_agrees_to_1e_4(family):
    model = family(3, torch.float32)
    architecture = architecture_of(model)
    before = outputs(model)
    model.load_state_dict(architecture.apply(dict(model.state_dict()), random_element(architecture, "everything", 5)))
    assert (outputs(model) - before).abs().max() <= 1e-4 * before.abs().max()


def test_apply_leaves_its_input_alone(family):
    model = family(1)
    state = model.state_dict()
    copy = {k: v.clone() for k, v in state.items()}
    architecture = architecture_of(model)
    architecture.apply(state, random_element(architecture, "everything", 1))
    assert all(torch.equal(state[k], copy[k]) for k in copy)


def test_every_weight_of_a_block_belongs_to_a_group(family):
    model = family()
    architecture = architecture_of(model)
    covered = {key for group in (*architecture.mlps, *architecture.attentions) for key in group.keys}
    in_blocks = {k for k, v in model.state_dict().items() if (".resblocks." in k or ".layer." in k) and v.ndim == 2}
    assert in_blocks <= covered


def test_the_text_tower_of_clip_is_known_too():
    from open_clip.transformer import TextTransformer

    torch.manual_seed(0)
    tower = randomized(TextTransformer(8, 11, width=16, heads=2, layers=2, output_dim=6).double(), 0)
    ids = torch.tensor([[3, 4, 10, 0, 0, 0, 0, 0]])
    architecture = architecture_of(tower)
    assert len(architecture.attentions) == 2
    with torch.no_grad():
        before = tower(ids)
        element = random_element(architecture, "everything", 0)
        tower.load_state_dict(architecture.apply(dict(tower.state_dict()), element))
        torch.testing.assert_close(tower(ids), before, rtol=1e-10, atol=1e-10)


def test_units_of_permuted_weights_are_permuted_units(architecture_and_states):
    architecture, base, _ = architecture_and_states
    group = architecture.mlps[0]
    order = torch.randperm(group.width, generator=torch.Generator().manual_seed(0))
    moved = architecture.apply(base, Element({group.name: order}, {}))
    torch.testing.assert_close(group.units(moved), group.units(base)[order])


def test_a_layer_it_does_not_know_is_named():
    model = nn.Sequential(FAMILIES["open_clip"](), nn.LSTM(4, 4))
    with pytest.raises(UnsupportedArchitecture, match=r"1 \(LSTM\)"):
        architecture_of(model)
    with pytest.raises(UnsupportedArchitecture, match="no transformer block"):
        architecture_of(nn.Conv2d(1, 1, 1))
