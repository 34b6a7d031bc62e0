"""Aligners compose: whatever the order, the function stays, and the full chain undoes every symmetry at once."""

from functools import reduce
from itertools import permutations

import pytest
import torch

from conftest import outputs
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.bench.symmetry.heads import Gauge
from mergearena.defenses.protect.gauges import random_matrices

PRESERVING = (
    "residual-matching",
    "head-matching",
    "weight-matching",
    "scale-normalization",
    "gauge-anchor",
    "rotation-matching",
    "shift-anchor",
    "polish",
)
CHAIN = (
    "shift-anchor(to=zero)",
    "residual-matching",
    "head-matching",
    "weight-matching",
    "gauge-anchor",
    "shift-anchor",
    "gauge-anchor",
)


class View:
    """What data-free aligners look at."""

    def __init__(self, model, base):
        self.architecture = architecture_of(model)
        self.base = {k: v.clone() for k, v in base.state_dict().items()}
        self.donors = {"d": self.base}
        self.generator = torch.Generator().manual_seed(0)


def aligners(names):
    return parse_attack(f"{'+'.join(names)} > average").aligners


def normal(shape, g):
    return torch.randn(shape, generator=g, dtype=torch.float64)


def scrambled(state, architecture, seed=0):
    """The state under a random element of everything that the map knows to be permutable or invertible, and shifted."""
    g = torch.Generator().manual_seed(seed)
    state = architecture.shifted(state, lambda shift, at: shift.unit(at) * normal(shift.unit(at).shape, g))
    gauges = {
        a.name: Gauge(
            random_matrices("nonsymmetric", a.kv_heads, a.width, g, a.nearest_admissible),
            random_matrices("nonsymmetric", a.kv_heads, a.width, g),
            torch.randperm(a.kv_heads, generator=g),
        )
        for a in architecture.attentions
    }
    orders = {m.name: torch.randperm(m.width, generator=g) for m in architecture.mlps}
    stream = architecture.residual
    order = None if stream is None else torch.randperm(stream.width, generator=g)
    return architecture.apply(state, Element(orders, gauges, residual=order))


@pytest.mark.parametrize("pair", list(permutations(PRESERVING, 2)), ids="+".join)
def test_any_two_aligners_in_any_order_keep_the_function(family, pair):
    model = family(1)
    view = View(model, family(2))
    before = outputs(model)
    released = scrambled(dict(model.state_dict()), view.architecture)
    model.load_state_dict(reduce(lambda state, a: a.align(state, view), aligners(pair), released))
    torch.testing.assert_close(outputs(model), before, rtol=1e-5, atol=1e-5)


def test_the_full_chain_undoes_every_symmetry_at_once(family):
    """Up to the gauge that is nearest to the base, in which the unprotected victim may not have been."""
    model, base = family(1), family(1)
    generator = torch.Generator().manual_seed(3)
    victim = {
        k: v + 0.01 * v.std() * torch.randn(v.shape, generator=generator, dtype=v.dtype)
        for k, v in base.state_dict().items()
    }
    view = View(model, base)
    chain = aligners(CHAIN)
    plain, undone = (
        reduce(lambda state, a: a.align(state, view), chain, start)
        for start in (victim, scrambled(victim, view.architecture))
    )
    for key, value in plain.items():
        torch.testing.assert_close(undone[key], value, rtol=1e-4, atol=1e-5)
