"""Attacks made against one defense each: their closed forms, and what they leave alone."""

import pytest
import torch

from mergearena.attacks.align.attention_shrink import attention_shrink
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.attacks.merge.victim_first import victim_first
from mergearena.bench.merging.kernels import default_scale, norm, task_vector


def models_of(view):
    return {view.victim: view.released, **view.donors}


def close(left, right, atol=1e-5):
    assert left.keys() == right.keys()
    assert all(torch.allclose(left[k], right[k], atol=atol) for k in left)


# victim-first


@pytest.mark.parametrize("donors", [("b",), ("b", "c")])
def test_every_model_has_its_coefficient(attacker, donors):
    view = attacker(donors=donors)
    merged = victim_first(models_of(view), view, scale=0.9, donors=0.4)
    taus = [task_vector(state, view.base) for state in (view.released, *view.donors.values())]
    expected = {k: v + 0.9 * taus[0][k] + 0.4 * sum(tau[k] for tau in taus[1:]) for k, v in view.base.items()}
    close(merged, expected)


def test_without_donors_and_at_full_length_it_is_the_victim(attacker):
    view = attacker()
    close(victim_first(models_of(view), view, scale=1.0, donors=0.0), view.released)


@pytest.mark.parametrize("donors", [("b",), ("b", "c")])
def test_equal_coefficients_are_task_arithmetic(attacker, donors):
    view = attacker(donors=donors)
    published = default_scale(len(donors) + 1)
    close(victim_first(models_of(view), view, scale=published), TaskArithmetic().merge(models_of(view), view))


# attention-shrink


def attention_keys(view):
    return {key for group in view.architecture.attentions for key in group.keys}


def ratio(state, view):
    """|tau_att| / |tau_rest|."""
    tau, keys = task_vector(state, view.base), attention_keys(view)
    return norm({k: tau[k] for k in keys}) / norm({k: tau[k] for k in tau.keys() - keys})


def pushed(view, by):
    """The victim with attention ``by`` times as far from the base."""
    keys = attention_keys(view)
    return {k: view.base[k] + by * (v - view.base[k]) if k in keys else v for k, v in view.released.items()}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_ratio_moves_towards_the_donors(attacker, power):
    view = attacker()
    far = pushed(view, 10.0)
    shrunk = attention_shrink(far, view, power=power)
    theirs = ratio(view.donors["b"], view)
    assert ratio(shrunk, view) == pytest.approx(ratio(far, view) ** (1 - power) * theirs**power, rel=1e-3)
    keys = attention_keys(view)
    assert all(torch.equal(shrunk[k], far[k]) for k in far.keys() - keys)


def test_it_undoes_a_push_along_the_task_vector(attacker):
    """A victim with its donor's ratio, pushed: at power 1 the push is gone, whatever its length."""
    start = attacker()
    view = attacker(pushed(start, ratio(start.donors["b"], start) / ratio(start.released, start)))
    for by in (2.0, 30.0):
        close(attention_shrink(pushed(view, by), view, power=1.0), view.released, atol=1e-4)


def test_attention_no_longer_than_the_donors_is_left(attacker):
    view = attacker()
    near = pushed(view, 0.1 * ratio(view.donors["b"], view) / ratio(view.released, view))
    assert attention_shrink(near, view) is near
    assert attention_shrink(view.base, view) is view.base


def test_several_donors_count_by_their_squares(attacker):
    view = attacker(donors=("b", "c"))
    far, keys = pushed(view, 10.0), attention_keys(view)
    taus = [task_vector(donor, view.base) for donor in view.donors.values()]
    squares = [sum(norm({k: t[k]}) ** 2 for t in taus for k in t if (k in keys) == inside) for inside in (True, False)]
    shrunk = attention_shrink(far, view, power=1.0)
    assert ratio(shrunk, view) == pytest.approx((squares[0] / squares[1]) ** 0.5, rel=1e-3)


def test_what_is_released_stays(attacker):
    view = attacker()
    far = pushed(view, 10.0)
    before = {k: v.clone() for k, v in far.items()}
    assert any(not torch.equal(attention_shrink(far, view)[k], before[k]) for k in before)
    assert all(torch.equal(far[k], before[k]) for k in before)
