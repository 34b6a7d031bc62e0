"""Residual matching: the stream's permutation or rotation, found whatever else was done to the model."""

from types import SimpleNamespace

import pytest
import torch

from conftest import decoder, outputs, randomized
from mergearena.attacks.align.residual_matching import anchors, residual_matching
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.defenses.protect.params import PaRaMS


@pytest.fixture
def view(architecture_and_states):
    architecture, base, victim = architecture_and_states
    generator = torch.Generator().manual_seed(3)
    return SimpleNamespace(architecture=architecture, base=base, victim=victim, generator=generator)


@pytest.fixture
def turnable():
    """A decoder whose stream may be rotated; the victim's task vector is a tenth of the base."""
    torch.manual_seed(0)
    model = randomized(decoder().double(), 1)
    base = {k: v.clone() for k, v in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    noise = {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in base.items()}
    victim = {k: v + 0.1 * v.square().mean().sqrt() * noise[k] for k, v in base.items()}
    return SimpleNamespace(
        architecture=architecture_of(model), base=base, victim=victim, generator=generator, model=model
    )


def random_order(view):
    return torch.randperm(view.architecture.residual.width, generator=view.generator)


def random_rotation(view):
    width = view.architecture.residual.width
    return torch.linalg.qr(torch.randn(width, width, generator=view.generator, dtype=torch.float64)).Q


def squared(left, right, keys=None):
    return float(sum((left[k] - right[k]).square().sum() for k in keys or left))


def test_an_unprotected_victim_is_left_as_it_is(view):
    back = residual_matching(view.victim, view)
    assert all(back[k] is view.victim[k] for k in view.victim)


def test_a_model_without_the_symmetry_is_left_as_it_is(view):
    view.architecture = SimpleNamespace(residual=None)
    assert residual_matching(view.victim, view) is view.victim


@pytest.mark.parametrize("scaling", ["diagonal", "nonsymmetric"])
def test_a_permutation_is_undone_exactly_whatever_else_was_done(view, scaling):
    if view.architecture.residual is None:
        pytest.skip("no such symmetry")
    protected = PaRaMS(scaling=scaling).protect(view.victim, view)
    factors = {n.name: 0.2 + torch.rand(n.width, generator=view.generator) for n in view.architecture.norms}
    protected = view.architecture.apply(protected, Element(norms=factors))
    released = view.architecture.apply(protected, Element(residual=random_order(view)))
    assert any(not torch.equal(released[k], protected[k]) for k in protected)
    back = residual_matching(released, view)
    assert all(torch.equal(back[k], protected[k]) for k in protected)


def test_a_vector_added_to_every_channel_hides_nothing(view):
    """LayerNorm ignores what all channels share, so a defense may add it to every embedding; the gains of one
    channel of the base then all grow by the same amount."""
    residual = view.architecture.residual
    if residual is None or residual.rotation:
        pytest.skip("no LayerNorm stream")
    axis = residual.axes[0]
    shift = 5 * torch.randn(view.victim[axis.key].shape[1:], generator=view.generator, dtype=torch.float64)
    shifted = {**view.victim, axis.key: view.victim[axis.key] + shift}
    back = residual_matching(view.architecture.apply(shifted, Element(residual=random_order(view))), view)
    assert all(torch.equal(back[k], shifted[k]) for k in shifted)


def test_anchors_ignore_every_other_symmetry(view):
    if view.architecture.residual is None:
        pytest.skip("no such symmetry")
    before = anchors(view.architecture, view.victim)
    protected = PaRaMS(scaling="nonsymmetric").protect(view.victim, view)
    factors = {n.name: 0.2 + torch.rand(n.width, generator=view.generator) for n in view.architecture.norms}
    after = anchors(view.architecture, view.architecture.apply(protected, Element(norms=factors)))
    for left, right in zip(before, after, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_a_rotation_of_the_base_is_undone(turnable):
    rotated = turnable.architecture.apply(turnable.base, Element(residual=random_rotation(turnable)))
    back = residual_matching(rotated, turnable)
    for key, value in turnable.base.items():
        torch.testing.assert_close(back[key], value, rtol=1e-9, atol=1e-9)


def test_a_rotation_is_undone_up_to_the_task_vector_whatever_else_was_done(turnable):
    victim, base = turnable.victim, turnable.base
    protected = PaRaMS().protect(victim, turnable)
    released = turnable.architecture.apply(protected, Element(residual=random_rotation(turnable)))
    back = residual_matching(released, turnable)
    alone = [k for k in base if k.startswith(("model.embed", "lm_head", "model.norm"))]
    assert squared(released, base, alone) > 20 * squared(victim, base, alone)
    assert squared(back, base, alone) < 1.5 * squared(victim, base, alone)
    turnable.model.load_state_dict(victim)
    before = outputs(turnable.model)
    turnable.model.load_state_dict(back)
    torch.testing.assert_close(outputs(turnable.model), before, rtol=1e-8, atol=1e-8)


def test_procrustes_beats_every_other_rotation(turnable):
    """Its distance is the least over rotations: no small turn about it comes nearer to the base's embedding."""
    released = turnable.architecture.apply(turnable.victim, Element(residual=random_rotation(turnable)))
    back = residual_matching(released, turnable)
    base, ours = (torch.cat(anchors(turnable.architecture, s), 1) for s in (turnable.base, back))
    best = (base - ours).square().sum()
    for _ in range(20):
        skew = 0.01 * torch.randn(16, 16, generator=turnable.generator, dtype=torch.float64)
        assert (base - torch.matrix_exp(skew - skew.T) @ ours).square().sum() > best


def test_a_permutation_of_a_stream_that_may_be_rotated_stays_one(turnable):
    released = turnable.architecture.apply(turnable.victim, Element(residual=random_order(turnable)))
    back = residual_matching(released, turnable)
    assert all(torch.equal(back[k], turnable.victim[k]) for k in back)


def test_a_norm_weight_of_zero_stays_folded(turnable):
    norm = turnable.architecture.norms[0]
    turnable.base[norm.times[0].key][3] = 0
    rotated = turnable.architecture.apply(turnable.victim, Element(residual=random_rotation(turnable)))
    back = residual_matching(rotated, turnable)
    assert back[norm.times[0].key][3] == 1
    assert all(torch.isfinite(v).all() for v in back.values())
