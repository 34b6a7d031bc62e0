"""Defenses that move the function to other weights: what they start from, what they train, what they spend."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from conftest import bert
from mergearena.bench.errors import ArenaError
from mergearena.bench.players.registry import registry
from mergearena.bench.symmetry.architecture import exchanged
from mergearena.defenses.protect.imitation import imitation, shifted, split_budget
from mergearena.defenses.protect.moat import Moat, neighbours
from mergearena.defenses.protect.relocate import Relocate, mixed

STILL = 1e-30
"""A learning rate that moves nothing."""


def close(left, right):
    return all(torch.allclose(left[k], right[k], atol=1e-6) for k in left)


def test_neighbours_change_places_and_the_odd_one_stays():
    assert neighbours(4) == [1, 0, 3, 2]
    assert neighbours(5) == [1, 0, 3, 2, 4]


def test_an_exchange_moves_attention_and_mlps_and_nothing_else(tiny):
    state = tiny.finetuned("a")
    moved = exchanged(tiny.architecture, state, [1, 0])
    prefix = "transformer.resblocks."
    for name in (
        "attn.in_proj_weight",
        "attn.in_proj_bias",
        "attn.out_proj.weight",
        "mlp.c_fc.bias",
        "mlp.c_proj.weight",
    ):
        assert moved[f"{prefix}0.{name}"] is state[f"{prefix}1.{name}"]
    kept = ("ln_1.weight", "ln_2.bias", "attn.out_proj.bias", "mlp.c_proj.bias")
    assert all(
        moved[f"{prefix}{layer}.{name}"] is state[f"{prefix}{layer}.{name}"] for layer in (0, 1) for name in kept
    )
    assert moved["proj"] is state["proj"]
    again = exchanged(tiny.architecture, moved, [1, 0])
    assert all(again[key] is state[key] for key in state)


def test_an_order_places_item_i_from_order_i(tiny):
    from mergearena.bench.symmetry.architecture import architecture_of

    model = bert()
    architecture, state = architecture_of(model), model.state_dict()
    moved = exchanged(architecture, state, [1, 0])
    first, second = architecture.mlps
    assert all(moved[a] is state[b] for a, b in zip(first.keys, second.keys, strict=True))


@pytest.mark.parametrize("order", [[0], [0, 0], [0, 2], [0, 1, 2]])
def test_what_is_no_order_is_refused(tiny, order):
    with pytest.raises(ArenaError, match="order of 2 layers"):
        exchanged(tiny.architecture, tiny.base(), order)


def test_moat_starts_at_the_victim_with_its_blocks_exchanged(tiny, defender):
    victim = tiny.finetuned("a")
    released = Moat(lr=STILL).protect(victim, defender())
    assert close(released, exchanged(tiny.architecture, victim, [1, 0]))


def way_back(tiny, released, view, s):
    """Cross-entropy of the defender's examples at theta0 + s (theta - theta0), blocks back in the base's order."""
    back, base = exchanged(tiny.architecture, released, [1, 0]), tiny.base()
    inputs, labels = view.train()
    merged = {key: base[key] + s * (back[key] - base[key]) for key in back}
    return F.cross_entropy(tiny.predict(merged, "a", inputs), labels).item()


def test_the_trap_is_on_the_way_back_at_every_length(tiny, defender):
    victim = tiny.finetuned("a")
    trapped, plain = (Moat(budget=1, lr=2e-2, trap=trap, every=1).protect(victim, defender()) for trap in (1.0, 0.0))
    for s in (0.5, 0.8, 1.0):
        assert way_back(tiny, trapped, defender(), s) > way_back(tiny, plain, defender(), s) + 1.0
    inputs, _ = defender().train()
    taught, ours, unmoved = (
        tiny.features(defender().model(state), inputs)
        for state in (victim, trapped, exchanged(tiny.architecture, victim, [1, 0]))
    )
    assert F.cosine_similarity(ours, taught).mean() > F.cosine_similarity(unmoved, taught).mean() + 0.1


def test_relocate_starts_without_the_victim(tiny, defender):
    one, other = (Relocate(lr=STILL).protect(tiny.finetuned(task), defender()) for task in "ab")
    assert close(one, other)
    assert close(one, exchanged(tiny.architecture, mixed(defender()), [1, 0]))


def test_units_are_mixed_by_a_rotation(tiny, defender):
    view = defender()
    state = mixed(view)
    for group in tiny.architecture.mlps:
        before, after = group.units(view.base), group.units(state)
        assert torch.allclose(after.T @ after, before.T @ before, atol=1e-4)
        assert not torch.allclose(after, before, atol=1e-1)


@pytest.mark.parametrize("defense", [Moat(budget=1), Relocate(budget=1)], ids=lambda d: d.name)
def test_same_draws_same_release_and_the_victim_stays(tiny, defender, defense):
    victim = tiny.finetuned("a")
    before = {k: v.clone() for k, v in victim.items()}
    first, again, other = (defense.protect(victim, defender(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
    assert all(torch.equal(victim[k], before[k]) for k in before)
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in victim.items()}
    assert not any(v.requires_grad for v in first.values())
    assert not defense.claims_function


def test_the_victim_imitates_itself_but_for_its_errors(tiny, defender):
    view, victim = defender(), tiny.finetuned("a")
    inputs, labels = view.train()
    own = imitation(victim, view)(view.model(victim), {"a": (inputs, labels)})
    inputs = shifted(inputs, defender().generator)
    assert torch.isclose(own, F.cross_entropy(tiny.predict(victim, "a", inputs), labels), atol=1e-4)


def test_a_hint_is_the_distance_of_what_enters_a_layer(tiny, defender):
    """Only what comes before the layer counts, and a victim is at no distance from itself."""
    victim = tiny.finetuned("a")
    batch = {"a": defender().train()}

    def hint(state):
        view = defender()
        own, hinted = (
            imitation(victim, replace(view, generator=seeded()), hints)(view.model(state), batch) for hints in ((), [1])
        )
        return (hinted - own).item()

    assert hint(victim) == pytest.approx(0, abs=1e-5)
    later, earlier = dict(victim), dict(victim)
    for name, changed in (("1", later), ("0", earlier)):
        key = f"transformer.resblocks.{name}.mlp.c_proj.weight"
        changed[key] = -victim[key]
    assert hint(later) == pytest.approx(0, abs=1e-5)
    assert hint(earlier) > 0.1


def seeded():
    return torch.Generator().manual_seed(4)


def test_pictures_are_shifted_around_the_edges_and_tokens_are_not():
    generator = torch.Generator().manual_seed(3)
    pictures = torch.arange(2 * 28 * 28.0).reshape(1, 2, 28, 28)
    seen = [shifted(pictures, generator) for _ in range(20)]
    assert all(torch.equal(s.flatten().sort().values, pictures.flatten()) for s in seen)
    rolled = {
        (r, c)
        for s in seen
        for r in range(-2, 3)
        for c in range(-2, 3)
        if torch.equal(s, pictures.roll((r, c), (2, 3)))
    }
    assert len(rolled) > 5
    ids = torch.ones(3, 8, dtype=torch.long)
    assert shifted(ids, generator) is ids


def test_a_budget_is_not_overdrawn_and_nearly_spent(defender):
    view = defender()

    class Long(type(view.suite)):
        fine_tuning_examples = 57600

    view = replace(view, suite=Long())
    steps, batch = split_budget(0.95, 4 / 3 + 1 / 2, 7, view)
    assert 0.93 * 57600 < steps * batch * (4 / 3 + 1 / 2) <= 0.95 * 57600
    assert abs(steps / batch - 7) < 0.5


def test_they_are_registered_under_their_names():
    assert registry.find("moat", "defense") is Moat
    assert registry.find("relocate", "defense") is Relocate
