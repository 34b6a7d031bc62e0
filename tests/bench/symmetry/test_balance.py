"""Balance: extreme scales that cancel are undone exactly, and nothing else is touched."""

import pytest
import torch

from conftest import FAMILIES, computes, random_element, randomized
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.bench.symmetry.balance import SLACK, balanced
from mergearena.bench.symmetry.heads import Gauge


def sabotage(architecture, reach, seed=0):
    """Every scale of the map by random powers of two within 2^-reach .. 2^reach, the farthest of them included."""
    g = torch.Generator().manual_seed(seed)

    def powers(*shape):
        exponents = torch.randint(-reach, reach + 1, shape, generator=g).double()
        exponents.view(-1)[0] = reach
        return 2.0**exponents

    gauges = {}
    for group in architecture.attentions:
        shape = group.kv_heads, group.width
        a, b = powers(*shape), powers(*shape)
        if group.qk == "rotary":
            a[:, group.width // 2 :] = a[:, : group.width // 2]
        if group.qk == "fixed":
            a = torch.ones_like(a)
        gauges[group.name] = Gauge(torch.diag_embed(a), torch.diag_embed(b), torch.arange(group.kv_heads))
    return Element(
        gauges=gauges,
        scales={group.name: powers(group.width) for group in architecture.scales},
        norms={group.name: powers(group.width) for group in architecture.norms},
    )


@pytest.fixture(params=FAMILIES)
def world(request):
    """A model of each family in float32, its architecture, and two states."""
    torch.manual_seed(0)
    model = randomized(FAMILIES[request.param](), 1)
    base = {key: value.clone() for key, value in model.state_dict().items()}
    g = torch.Generator().manual_seed(2)
    victim = {key: value + 0.02 * torch.randn(value.shape, generator=g) for key, value in base.items()}
    return model, architecture_of(model), base, victim


@pytest.mark.parametrize("reach", [16, 40])
def test_powers_of_two_are_undone_to_the_last_bit(world, reach):
    model, architecture, base, victim = world
    released = architecture.apply(victim, sabotage(architecture, reach))
    assert torch.equal(computes(model, released), computes(model, victim))
    back = balanced(released, base, architecture)
    for key in victim:
        assert torch.equal(back[key], victim[key]), key


def test_a_model_within_the_slack_keeps_its_very_tensors(world):
    _, architecture, base, victim = world
    for state in (victim, architecture.apply(victim, sabotage(architecture, int(SLACK) // 2))):
        back = balanced(state, base, architecture)
        assert back.keys() == state.keys()
        assert all(back[key] is state[key] for key in state)


def test_the_function_is_kept_whatever_else_was_done(family):
    """Heads, units and channels in another order, other gauges: lengths are compared with the wrong ones then."""
    model = family()
    architecture = architecture_of(model)
    base = {key: value.clone() for key, value in model.state_dict().items()}
    moved = architecture.apply(base, random_element(architecture, "everything", 3))
    released = architecture.apply(moved, sabotage(architecture, 30))
    before = computes(model, released)
    torch.testing.assert_close(computes(model, balanced(released, base, architecture)), before, rtol=1e-9, atol=1e-9)


def test_rows_of_any_gauge_end_near_the_base(world):
    """A mixed head whose channels were scaled spans hardly more than the mixture itself does."""
    _, architecture, base, victim = world
    for group in architecture.attentions:
        g = torch.Generator().manual_seed(5)
        mix = torch.linalg.qr(torch.randn(group.kv_heads, group.width, group.width, generator=g).double()).Q
        eye = torch.eye(group.width, dtype=torch.float64).expand_as(mix)
        order = torch.arange(group.kv_heads)
        mixed = architecture.apply(victim, Element(gauges={group.name: Gauge(eye, mix, order)}))
        released = architecture.apply(mixed, sabotage(architecture, 16))
        rows = group.v.read(balanced(released, base, architecture)).norm(dim=-1)
        assert rows.max() / rows.min() < 2**6


def test_a_channel_of_zeros_has_no_scale(world):
    _, architecture, base, victim = world
    group = architecture.attentions[0]
    released = architecture.apply(victim, sabotage(architecture, 16))
    for side in (group.v, group.o):
        for key in side.keys:
            released[key] = released[key].clone()
        rows = side.read(released)
        rows[:, 0] = 0
        side.write(released, rows)
    back = balanced(released, base, architecture)
    assert all(torch.isfinite(value).all() for value in back.values())
    assert not group.v.read(back)[:, 0].any()
