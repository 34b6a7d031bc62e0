"""DAM: its perturbations stay in their ball, its masks take turns, and each lowers the loss that it claims to."""

import pytest
import torch
import torch.nn.functional as F

from mergearena.bench.errors import BadConfig
from mergearena.bench.games.backdoor.pipeline import parse_merger
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.learning.coefficients import Blend, entropies, entropy, learned
from mergearena.bench.learning.masks import expected, product
from mergearena.bench.learning.perturbation import Perturbation, lengths
from mergearena.bench.learning.training import At
from mergearena.bench.merging.kernels import add_task_vector, task_vector
from mergearena.bench.players.tier import Tier
from mergearena.defenses.sanitize.dam import DAM, MASKS, one_step, summed
from mergearena.defenses.sanitize.universal import Adversary, UniversalConfig, largest, steepest
from token_suite import TokenSuite


@pytest.fixture(params=["pictures", "tokens"])
def suite(request, tiny):
    return tiny if request.param == "pictures" else TokenSuite()


def merger(suite, seed=0, **options):
    return MergerView(
        suite=suite,
        base=suite.base(),
        tasks=("a", "b"),
        generator=torch.Generator().manual_seed(seed),
        tier=Tier.UNLABELLED,
        examples={task: suite.load(task, "train") for task in "ab"},
        contributions={task: suite.finetuned(task) for task in "ab"},
        **options,
    )


def parts(view):
    """Blend, equal coefficients, all inputs and a frozen module."""
    blend = Blend(list(view.contributions.values()), view.base)
    data = {task: (view.unlabelled(task),) for task in view.tasks}
    return blend, blend.coefficients(0.8), data, view.model(view.base).requires_grad_(False)


def defended(view, **config):
    return DAM(**config).merge(view.contributions, view)


def same(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("variant", MASKS)
def test_same_seed_same_model_and_the_uploads_stay(suite, variant):
    view = merger(suite)
    before = {t: {k: v.clone() for k, v in state.items()} for t, state in view.contributions.items()}
    base = {k: v.clone() for k, v in view.base.items()}
    first, again = (defended(merger(suite), variant=variant, outer=2, steps=1) for _ in "ab")
    assert same(first, again)
    assert {k: (v.shape, v.dtype) for k, v in first.items()} == {k: (v.shape, v.dtype) for k, v in base.items()}
    assert not any(v.requires_grad for v in first.values())
    defended(view, variant=variant, outer=2, steps=1)
    assert same(view.base, base)
    assert all(same(view.contributions[t], before[t]) for t in before)
    assert view.reads.unlabelled == {"a": 20, "b": 20}
    assert not view.reads.labelled


def test_masks_that_never_moved_leave_the_plain_merge(tiny):
    view = merger(tiny)
    merged = defended(view, outer=0, steps=0, init=0.4)
    plain = view.base
    for state in view.contributions.values():
        plain = add_task_vector(plain, task_vector(state, view.base), 0.4)
    assert all(torch.allclose(merged[k], v, atol=1e-6) for k, v in plain.items())


def test_without_masks_it_is_adamerging(tiny):
    ours, view = defended(merger(tiny), variant="none", steps=3), merger(tiny)
    baseline = parse_merger("adamerging(steps=3)").run(view)
    assert all(torch.allclose(ours[k], v, atol=1e-6) for k, v in baseline.items())


def adversary_of(view, **config):
    """A fresh adversary, the module at the base, all inputs and the base's answers."""
    _, _, data, model = parts(view)
    inputs = {task: x for task, (x,) in data.items()}
    answers = {task: view.logits(model, task, x).argmax(-1) for task, x in inputs.items()}
    return Adversary(view, model, data, UniversalConfig(**config)), model, inputs, answers


def wrong(logits, answers):
    return sum(F.cross_entropy(logits[task], answers[task]) for task in logits).item()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", ["ball", "patch"])
def test_perturbations_climb_and_stay_in_their_ball(suite, kind, norm):
    adversary, model, inputs, answers = adversary_of(merger(suite), perturbation=kind, norm=norm, radius=0.3, area=0.1)
    before = wrong(adversary.logits(model, inputs), answers)
    for _ in range(6):
        adversary.ascend(model, inputs, answers)
        for shift in adversary.shifts.values():
            if kind == "patch" and not shift.tokens:
                assert (shift.delta != 0).any(0).sum() <= round(0.1 * 14 * 14)
            else:
                size = lengths(shift.delta.detach().view(1, -1), norm).item()
                assert 0 < size <= shift.limit * (1 + 1e-5)
    assert wrong(adversary.logits(model, inputs), answers) > before + 0.01


def test_the_first_step_in_the_ball_is_adams(tiny):
    """Pace times the radius along the sign of the gradient, per entry."""
    adversary, model, inputs, answers = adversary_of(merger(tiny), perturbation="ball", radius=0.3, pace=0.1)
    shift = adversary.shifts["a"]
    loss = F.cross_entropy(shift.logits(model, "a", inputs["a"]), answers["a"])
    (slope,) = torch.autograd.grad(loss, [shift.delta])
    adversary.ascend(model, inputs, answers)
    clear = slope.abs() > 1e-5
    assert clear.any()
    step = 0.1 * 0.3 * inputs["a"].square().mean().sqrt()
    torch.testing.assert_close(shift.delta.detach()[clear], step * slope.sign()[clear], rtol=2e-3, atol=0)


def test_the_largest_pixels_by_hand():
    picture = torch.zeros(3, 2, 2)
    picture[0, 0, 1], picture[:, 1, 0], picture[2, 1, 1] = 2.0, torch.tensor([1.0, -1.0, 1.0]), -0.5
    kept = largest(picture, 0.25)
    assert kept[:, 1, 0].tolist() == [1.0, -1.0, 1.0]
    assert kept.abs().sum() == 3
    assert torch.equal(largest(picture, 1.0), picture)
    assert (largest(picture, 1e-6) != 0).any(0).sum() == 1


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_steepest_point_of_the_ball_is_the_dual_norm(norm):
    """max of <z, d> over |d| <= r is r |z|_dual: l1 for linf, l2 for l2, linf for l1."""
    view = merger(TokenSuite())
    shift = Perturbation(view, view.model(view.base), view.unlabelled("a"), 0.3, norm)
    z = torch.randn(shift.delta.shape, generator=torch.Generator().manual_seed(3))
    found = steepest(z, shift, area=0.05)
    dual = lengths(z.view(1, -1), {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]).item()
    assert (found * z).sum().item() == pytest.approx(shift.limit * dual, rel=1e-4)
    assert lengths(found.view(1, -1), norm).item() == pytest.approx(shift.limit, rel=1e-4)


def test_the_loss_by_hand(tiny):
    """Examples without answers have entropies, those with answers cross-entropies; tasks add."""
    logits = {"a": torch.zeros(2, 4), "b": torch.tensor([[0.0, 1.0]])}
    inputs = {task: torch.zeros(len(x), 1) for task, x in logits.items()}
    low = entropy(logits["a"]) + entropy(logits["b"])
    torch.testing.assert_close(summed(logits, {task: (x,) for task, x in inputs.items()}), low)
    answers = {"a": torch.tensor([1, 3]), "b": torch.tensor([1])}
    right = torch.tensor(4.0).log() + F.cross_entropy(logits["b"], answers["b"])
    torch.testing.assert_close(summed(logits, {task: (x, answers[task]) for task, x in inputs.items()}), right)


def test_the_inner_step_goes_against_the_gradient_from_the_start(tiny):
    view = merger(tiny)
    blend, start, data, model = parts(view)
    mask = {key: 0.5 * torch.ones_like(value) for key, value in view.base.items()}
    moved = one_step(blend, start, mask, model, data, view, lr=0.02)
    slope = start.clone().requires_grad_()
    entropies(view)(At(model, blend.weights(slope, mask)), data).backward()
    clear = slope.grad.abs() > 1e-4
    assert clear.any()
    torch.testing.assert_close((moved - start)[clear], -0.02 * slope.grad.sign()[clear], rtol=1e-3, atol=0)


def moved_after(view, outer, variant="dual"):
    blend, start, data, _ = parts(view)
    masks = DAM(outer=outer, variant=variant).logits(blend, start, data, view)
    return {name: any(bool((a != 0).any()) for a in logits.values()) for name, logits in masks.items()}


def test_masks_take_turns(tiny):
    assert moved_after(merger(tiny), 1) == {"task-shared": True, "backdoor-detection": False}
    assert moved_after(merger(tiny), 2) == {"task-shared": True, "backdoor-detection": True}
    assert moved_after(merger(tiny), 1, "single") == {"backdoor-detection": True}
    assert moved_after(merger(tiny), 1, "none") == {}


def test_every_outer_step_is_reported(tiny):
    told = []
    defended(merger(tiny, progress=lambda *step: told.append(step)), outer=3, steps=1)
    assert told == [(1, 3), (2, 3), (3, 3)]


def losses(view, variant, outer):
    """Clean entropy, and the cross-entropy under a fresh adversary to the first answers, with the expected masks."""
    blend, start, data, model = parts(view)
    plain = At(model, blend.weights(start))
    inputs = {task: x for task, (x,) in data.items()}
    answers = {task: view.logits(plain, task, x).argmax(-1) for task, x in inputs.items()}
    taught = {t: (x, answers[t]) for t, x in inputs.items()} if variant.endswith("consistent") else data
    defense = DAM(variant=variant, outer=outer, mask_lr=0.2)
    logits = defense.logits(blend, start, taught, view)
    merged = At(model, blend.weights(start, product([expected(a) for a in logits.values()])))
    adversary = Adversary(view, model, data, defense.config)
    for _ in range(6):
        adversary.ascend(merged, inputs, answers)
    return entropies(view)(merged, data).item(), wrong(adversary.logits(merged, inputs), answers)


def test_the_task_shared_mask_lowers_the_entropy(suite):
    before, after = (losses(merger(suite), "task-shared", outer)[0] for outer in (0, 12))
    assert after < before - 0.02


@pytest.mark.parametrize("variant", ["single-consistent", "dual-consistent"])
def test_the_detection_mask_keeps_answers_under_perturbation(suite, variant):
    before, after = (losses(merger(suite), variant, outer)[1] for outer in (0, 16))
    assert after < before - 0.02


def test_the_mask_stays_while_coefficients_are_learned(tiny):
    """The result is theta0 + m * sum of lambda tau with the mask that the outer steps found."""
    config = {"outer": 2, "steps": 3, "variant": "single"}
    ours, view = defended(merger(tiny), **config), merger(tiny)
    blend, start, data, _ = parts(view)
    mask = product([expected(a) for a in DAM(**config).logits(blend, start, data, view).values()])
    found = learned(blend, start, data, entropies(view), view, 3, 1e-2, 16, mask)
    assert same(ours, blend.state(found, mask))
    assert not same(ours, blend.state(found))


@pytest.mark.parametrize("bad", [{"radius": 0.0}, {"variant": "triple"}, {"alpha": -1.0}, {"area": 0.0}])
def test_bad_configs_are_refused(bad):
    with pytest.raises(BadConfig, match=next(iter(bad))):
        DAM(**bad)
