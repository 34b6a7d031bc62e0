"""Perturbations: they stay in their ball, they are what they claim to be, and ascent raises what it climbs."""

import pytest
import torch
import torch.nn.functional as F

from mergearena.bench.errors import ArenaError
from mergearena.bench.learning.perturbation import Perturbation, lengths
from mergearena.bench.learning.training import At
from mergearena.bench.players.views import View
from token_suite import TokenSuite


@pytest.fixture(params=["pictures", "tokens"])
def scene(request, tiny):
    """(view, model, inputs, labels) of either kind of input."""
    suite = tiny if request.param == "pictures" else TokenSuite()
    view = View(suite=suite, base=suite.base(), tasks=("a",), generator=torch.Generator().manual_seed(0))
    return view, view.model(view.base), *suite.load("a", "train")


def rows(pert):
    return pert.delta.detach().flatten(1) if pert.each else pert.delta.detach().reshape(1, -1)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("each", [False, True])
def test_ascent_raises_the_loss_and_stays_in_the_ball(scene, norm, each):
    view, model, inputs, labels = scene
    pert = Perturbation(view, model, inputs, 0.3, norm, each)
    before = F.cross_entropy(view.logits(model, "a", inputs), labels)
    torch.testing.assert_close(pert.logits(model, "a", inputs), view.logits(model, "a", inputs))
    for pace, gain in ((0.1, 1e-3), (0.1, 1e-3), (5.0, -torch.inf)):  # five radii at once overshoot
        pert.ascend(lambda: F.cross_entropy(pert.logits(model, "a", inputs), labels), 3, pace)
        assert (lengths(rows(pert), norm) <= pert.limit).all()
        assert F.cross_entropy(pert.logits(model, "a", inputs), labels) > before + gain
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("each", [False, True])
def test_projection_moves_only_what_is_outside(scene, norm, each):
    view, model, inputs, _ = scene
    pert = Perturbation(view, model, inputs, 0.3, norm, each)
    pert.randomise(view.generator)
    assert (lengths(rows(pert), norm) <= pert.limit).all()
    edge = pert.delta.detach().clone()
    pert.project()
    assert torch.equal(pert.delta, edge)
    with torch.no_grad():
        pert.delta.mul_(4)
    pert.project()
    # Every shape of ball is scaled back along the ray, a corner of a cube too.
    torch.testing.assert_close(pert.delta.detach(), edge, rtol=1e-5, atol=0)


def test_the_radius_is_a_share_of_the_signal(scene):
    view, model, inputs, _ = scene
    if inputs.is_floating_point():
        signal = inputs.flatten(1)
    else:
        signal = model.embeddings.word_embeddings.weight.detach()[inputs[inputs != 0]]
    for norm, size in (("l1", signal.abs().sum(1).mean()), ("l2", signal.norm(dim=1).mean())):
        assert Perturbation(view, model, inputs, 0.3, norm).limit == pytest.approx(0.3 * size.item(), rel=1e-5)
    rms = signal.square().mean().sqrt().item()
    assert Perturbation(view, model, inputs, 0.3, "linf").limit == pytest.approx(0.3 * rms, rel=1e-5)
    with pytest.raises(ArenaError, match="at least 0"):
        Perturbation(view, model, inputs, -1.0)


def test_the_first_step_follows_the_gradient(scene):
    view, model, inputs, labels = scene
    linf, l2 = (Perturbation(view, model, inputs, 0.1, norm) for norm in ("linf", "l2"))
    for pert, way in ((linf, torch.sign), (l2, lambda g: g / g.norm())):
        loss = F.cross_entropy(pert.logits(model, "a", inputs), labels)
        (slope,) = torch.autograd.grad(loss, [pert.delta])
        returned = pert.ascend(lambda p=pert: F.cross_entropy(p.logits(model, "a", inputs), labels), 1, 0.5)
        torch.testing.assert_close(pert.delta.detach(), 0.5 * pert.limit * way(slope))
        assert returned.item() == pytest.approx(loss.item())


def test_a_shift_of_pictures_stays_in_the_range_of_pixels(tiny):
    view = View(suite=tiny, base=tiny.base(), tasks=("a",), generator=torch.Generator())
    model, inputs = view.model(view.base), tiny.load("a", "train")[0]
    pert = Perturbation(view, model, inputs, 1.0, "linf")
    with torch.no_grad():
        pert.delta.fill_(1e6)
    brightest = torch.full_like(inputs, inputs.max().item())
    torch.testing.assert_close(pert.features(model, inputs), tiny.features(model, brightest))


def test_a_shift_of_tokens_is_a_shift_of_the_embedding_table(one_thread):
    suite = TokenSuite()
    view = View(suite=suite, base=suite.base(), tasks=("a",), generator=torch.Generator().manual_seed(0))
    model, inputs = view.model(view.base), suite.load("a", "train")[0]
    pert = Perturbation(view, model, inputs, 0.5)
    pert.randomise(view.generator)
    table = "embeddings.word_embeddings.weight"
    moved = {**view.base, table: view.base[table] + pert.delta.detach()}
    expected = suite.features(view.model(moved), inputs)
    torch.testing.assert_close(pert.features(model, inputs), expected)
    functional = At(model, dict(model.named_parameters()))
    torch.testing.assert_close(pert.features(functional, inputs), expected)
    # The hooks are gone afterwards.
    assert not torch.allclose(suite.features(model, inputs), expected)
    torch.testing.assert_close(suite.features(model, inputs), suite.features(view.model(view.base), inputs))
