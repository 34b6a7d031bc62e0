"""Recoveries: what they minimise goes down, and what is right already stays."""

import pytest
import torch
import torch.nn.functional as F

from mergearena.attacks.examples import limited
from mergearena.attacks.recover.distill import Distill, teacher
from mergearena.attacks.recover.finetune import Finetune
from mergearena.attacks.recover.norm_recalibrate import norm_recalibrate
from mergearena.bench.errors import TierViolation
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.merging.kernels import average
from mergearena.bench.players.tier import Tier
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.heads import Gauge
from tiny_suite import DoubleSuite


def merged_of(view):
    return average([view.released, *view.donors.values()])


def logits(state, task, view):
    return view.suite.predict(state, task, view.examples[task][0])


# fine-tuning and distillation


def test_finetune_lowers_the_cross_entropy(attacker):
    view = attacker(tier=Tier.LABELLED)
    merged = merged_of(view)
    before = {k: v.clone() for k, v in merged.items()}
    tuned = Finetune(steps=20, lr=3e-3).recover(merged, view)
    start, end = (
        sum(F.cross_entropy(logits(s, t, view), view.examples[t][1]) for t in view.tasks) for s in (merged, tuned)
    )
    assert end < start - 0.1
    assert all(torch.equal(merged[k], before[k]) for k in before)


def test_one_step_of_training_is_the_gradient_of_all_tasks(attacker):
    """AdamW's first step moves every entry by lr against the sign of its gradient."""
    view = attacker(tier=Tier.LABELLED)
    merged, rows = merged_of(view), {}
    replay = torch.Generator().manual_seed(0)
    for task in view.tasks:
        rows[task] = torch.randint(20, (5,), generator=replay)
    tuned = Finetune(steps=1, lr=1e-3, batch_size=5).recover(merged, view)
    model = view.model(merged)
    sum(
        F.cross_entropy(view.logits(model, t, view.examples[t][0][r]), view.examples[t][1][r]) for t, r in rows.items()
    ).backward()
    for key, parameter in model.named_parameters():
        clear = parameter.grad.abs() > 1e-4
        moved = (tuned[key] - merged[key])[clear]
        torch.testing.assert_close(moved, -1e-3 * parameter.grad.sign()[clear], rtol=1e-2, atol=1e-6)


def gap(state, view):
    """KL of the student from each task's teacher."""
    pairs = [(logits(state, t, view), logits(teacher(t, view), t, view)) for t in view.tasks]
    return sum(view.suite.divergence(*pair).item() for pair in pairs)


def test_distill_brings_the_answers_nearer_to_the_teachers(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    taught = Distill(steps=30, lr=1e-3).recover(view.base, view)
    assert gap(taught, view) < 0.7 * gap(view.base, view)
    assert teacher("a", view) is view.released
    assert teacher("b", view) is view.donors["b"]


@pytest.mark.parametrize("seed", range(5))
def test_a_student_that_is_its_teacher_stays(attacker, seed):
    """On any batch a step moves it by rounding, a millionth of the learning rate at most.

    In float64: Adam makes a full step of a gradient over 1e-8, and so of float32's rounding. One step from the
    teacher: next to it, where Adam's steps are the gradient times lr / 1e-8, rounding grows a thousandfold with each.
    """
    suite = DoubleSuite()
    examples = {task: suite.load(task, "train") for task in "ab"}
    released = suite.finetuned("a")
    view = attacker(released, tier=Tier.UNLABELLED, seed=seed)
    same = AttackerView(
        **{**vars(view), "suite": suite, "base": suite.base(), "donors": {"b": released}, "examples": examples}
    )
    taught = Distill(steps=1, lr=1e-4).recover(released, same)
    assert max((taught[key] - released[key]).abs().max() for key in released) < 1e-10
    assert gap(taught, same) < 1e-12


def test_the_divergence_of_logits_from_themselves_is_a_minimum(tiny):
    s = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    student = s.clone().requires_grad_()
    loss = tiny.divergence(student, s, 4.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_gradient_of_the_divergence_in_closed_form(tiny, temperature):
    """d/ds D^2 KL = D (softmax(s / D) - softmax(t / D)) / B."""
    g = torch.Generator().manual_seed(0)
    s, t = (torch.randn(6, 3, generator=g, dtype=torch.float64) for _ in range(2))
    s.requires_grad_()
    tiny.divergence(s, t, temperature).backward()
    expected = temperature * ((s / temperature).softmax(-1) - (t / temperature).softmax(-1)).detach() / 6
    torch.testing.assert_close(s.grad, expected)


def test_distillation_sees_answers_and_no_weights(attacker):
    """Rewriting the released model's weights without changing its function changes nothing that is learned."""
    view = attacker(tier=Tier.UNLABELLED)
    g = torch.Generator().manual_seed(3)
    gauges = {
        a.name: Gauge(
            *(torch.randn(a.kv_heads, a.width, a.width, generator=g, dtype=torch.float64) for _ in range(2)),
            torch.arange(a.kv_heads),
        )
        for a in view.architecture.attentions
    }
    orders = {m.name: torch.randperm(m.width, generator=g) for m in view.architecture.mlps}
    rewritten = attacker(view.architecture.apply(view.released, Element(orders, gauges)), tier=Tier.UNLABELLED)
    assert any((view.released[k] - rewritten.released[k]).abs().max() > 0.1 for k in view.released)
    plain, other = (Distill(steps=5).recover(view.base, v) for v in (view, rewritten))
    for task in view.tasks:
        torch.testing.assert_close(logits(other, task, view), logits(plain, task, view), rtol=1e-3, atol=1e-3)


# budgets, tiers and marks


@pytest.mark.parametrize("recovery", [Finetune(k=3, steps=1), Distill(k=3, steps=1)])
def test_a_budget_limits_what_is_read(attacker, recovery):
    view = attacker(tier=Tier.LABELLED)
    recovery.recover(merged_of(view), view)
    read = view.reads.labelled if isinstance(recovery, Finetune) else view.reads.unlabelled
    assert read == {"a": 3, "b": 3}


def test_training_on_k_examples_depends_on_no_other(attacker):
    view = attacker(tier=Tier.LABELLED)
    fewer = AttackerView(**{**vars(attacker(tier=Tier.LABELLED)), "examples": dict(limited(view, 3).examples)})
    left, right = Finetune(k=3, steps=2).recover(view.base, view), Finetune(steps=2).recover(view.base, fewer)
    assert all(torch.equal(left[k], right[k]) for k in left)
    assert [len(labels) for _, labels in fewer.examples.values()] == [3, 3]


def test_a_limited_view_counts_in_the_same_place(attacker):
    view = attacker(tier=Tier.UNLABELLED)
    assert limited(view, None) is view
    assert len(limited(view, 5).unlabelled("a")) == 5
    assert view.reads.unlabelled == {"a": 5}
    assert len(limited(view, 500).unlabelled("b")) == 20


def test_reading_beyond_the_tier_raises(attacker):
    view = attacker(tier=Tier.DATA_FREE)
    with pytest.raises(TierViolation):
        Distill().recover(view.base, view)
    with pytest.raises(TierViolation):
        norm_recalibrate(view.base, view)
    with pytest.raises(TierViolation):
        Finetune(k=2).recover(view.base, attacker(tier=Tier.UNLABELLED))


def test_what_learns_from_answers_is_marked():
    assert parse_attack("average > distill").extraction
    assert parse_attack("average > finetune+distill(steps=5)").extraction
    assert not parse_attack("average > finetune+norm-recalibrate").extraction
    assert not parse_attack("average").extraction
    assert parse_attack("average > distill").tier == Tier.UNLABELLED
    assert parse_attack("average > norm-recalibrate").tier == Tier.UNLABELLED
