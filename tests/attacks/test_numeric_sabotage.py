"""Scales that cancel, as far apart as float32 holds them: exact for the model, and no obstacle to an attack."""

import warnings

import pytest
import torch

from mergearena.bench.doctor.miniature import Miniature
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.games.protection.roles import attacker_view
from mergearena.bench.players.tier import Tier
from mergearena.bench.submit.toys import FAMILIES
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.heads import Gauge

MIXED = "head-matching+weight-matching+gauge-anchor > task-arithmetic"
NAIVE = "identity > task-arithmetic"
AUTO = [spelling for spelling in presets.AUTO if parse_attack(spelling).tier is Tier.DATA_FREE]
ATTACKS = dict.fromkeys(
    [
        "weight-matching > task-arithmetic",
        "weight-matching+gauge-anchor > task-arithmetic",
        "anchor > task-arithmetic",
        "rotation-matching > task-arithmetic",
        "scale-normalization > task-arithmetic",
        "polish > task-arithmetic",
        MIXED,
        *AUTO[:3],
    ]
)


def powers(shape, reach, g):
    return 2.0 ** torch.randint(-reach, reach + 1, shape, generator=g).double()


def scales(architecture, reach, seed=0):
    """Every head channel, unit and norm channel that may be scaled, by a power of two within 2^-reach .. 2^reach."""
    g = torch.Generator().manual_seed(seed)
    gauges = {}
    for group in architecture.attentions:
        a, b = (powers((group.kv_heads, group.width), reach, g) for _ in "ab")
        if group.qk == "rotary":
            a = a[:, : group.width // 2].repeat(1, 2)
        gauges[group.name] = Gauge(torch.diag_embed(a), torch.diag_embed(b), torch.arange(group.kv_heads))
    return Element(
        gauges=gauges,
        scales={group.name: powers((group.width,), reach, g) for group in architecture.scales},
        norms={group.name: powers((group.width,), reach, g) for group in architecture.norms},
    )


def attack(suite, spelling, released):
    return parse_attack(spelling).run(attacker_view(parse_attack(spelling), suite, ("a", "b"), released, {}, 0))


def scores(suite, state):
    return [suite.score(state, task, "test") for task in "ab"]


@pytest.fixture(scope="module")
def miniature():
    return Miniature()


@pytest.mark.parametrize("reach", [16, 40])
@pytest.mark.parametrize("spelling", ATTACKS)
def test_an_attack_recovers_what_it_recovers_of_the_unprotected_victim(miniature, spelling, reach):
    victim = miniature.finetuned("a")
    released = miniature.architecture.apply(victim, scales(miniature.architecture, reach))
    assert scores(miniature, released) == scores(miniature, victim)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merged = attack(miniature, spelling, released)
    assert scores(miniature, merged) == scores(miniature, attack(miniature, spelling, victim))


@pytest.mark.parametrize("reach", [16, 40])
def test_without_an_aligner_that_is_a_defense(miniature, reach):
    victim = miniature.finetuned("a")
    released = miniature.architecture.apply(victim, scales(miniature.architecture, reach))
    naive = "identity > task-arithmetic"
    assert (
        scores(miniature, attack(miniature, naive, released))[0]
        < scores(miniature, attack(miniature, naive, victim))[0]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_in_every_family_the_merge_is_the_same_to_the_last_bit(family):
    """Gated MLPs, rotary pairs, grouped queries and norms included."""
    suite = FAMILIES[family]()
    victim = suite.finetuned("a")
    released = suite.architecture.apply(victim, scales(suite.architecture, 16))
    for spelling in ("weight-matching+gauge-anchor > task-arithmetic", "anchor > task-arithmetic", MIXED):
        merged, expected = attack(suite, spelling, released), attack(suite, spelling, victim)
        assert all(torch.equal(merged[key], expected[key]) for key in expected), spelling


@pytest.mark.parametrize("similarity", ["raw", "cosine"])
def test_units_are_matched_behind_scales_and_an_order(similarity):
    """Neither the units' own scales nor those of the columns that they read mislead raw inner products."""
    suite = FAMILIES["llama"]()
    architecture, victim = suite.architecture, suite.finetuned("a")
    g = torch.Generator().manual_seed(3)
    orders = {mlp.name: torch.randperm(mlp.width, generator=g) for mlp in architecture.mlps}
    shuffled = architecture.apply(victim, Element(orders))
    released = architecture.apply(shuffled, scales(architecture, 16))
    (aligner,) = parse_attack(f"weight-matching(similarity={similarity}) > average").aligners
    view = attacker_view(parse_attack("average"), suite, ("a", "b"), released, {}, 0)
    back = aligner.align(released, view)
    gates = [axis for mlp in architecture.mlps for axis in mlp.axes if "gate_proj" in axis.key]
    assert gates
    assert all(torch.equal(back[axis.key], victim[axis.key]) for axis in gates)
