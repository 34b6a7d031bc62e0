"""Shifts: they keep the function, they add up, they are read back, and none is claimed where it would not hold."""

import pytest
import torch
from test_families import tower

from conftest import bert, close, computes, decoder, outputs, randomized
from mergearena.bench.errors import ArenaError
from mergearena.bench.symmetry.architecture import architecture_of
from mergearena.bench.symmetry.shifts import KeyBias, NormRead, StreamWrite, Sum, ValueBias

KINDS = {
    "open_clip": {KeyBias: 2, ValueBias: 2, NormRead: 4, StreamWrite: 4, Sum: 1},
    "bert": {KeyBias: 2, ValueBias: 2, NormRead: 8, StreamWrite: 4, Sum: 2},
    "llama": {},
}


def by(shift, state, size, seed):
    unit = shift.unit(state)
    return size * unit * torch.randn(unit.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def added(state, shift, vector):
    moved = dict(state)
    shift.add(moved, vector)
    return moved


def test_each_family_has_the_shifts_that_its_norms_and_biases_leave(family):
    architecture = architecture_of(family())
    found = {kind: sum(isinstance(s, kind) for s in architecture.shifts) for kind in KINDS["bert"]}
    assert {kind: count for kind, count in found.items() if count} == KINDS[architecture.family]
    assert len({shift.name for shift in architecture.shifts}) == len(architecture.shifts)


@pytest.mark.parametrize("make", [tower, bert], ids=["open_clip", "bert"])
def test_each_shift_keeps_the_function_and_is_read_back(make):
    torch.manual_seed(0)
    model = randomized(make().double(), 0)
    before = outputs(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for shift in architecture_of(model).shifts:
        vector = by(shift, state, 3.0, 1)
        moved = added(state, shift, vector)
        changed = {key for key in state if not torch.equal(state[key], moved[key])}
        assert changed
        close(computes(model, moved), before)
        close(shift.read(moved) - shift.read(state), vector)
        back = added(moved, shift, -vector)
        for key in state:
            close(back[key], state[key])


@pytest.mark.parametrize("make", [tower, bert], ids=["open_clip", "bert"])
def test_one_pass_takes_all_of_them_to_zero(make):
    torch.manual_seed(0)
    model = randomized(make().double(), 0)
    architecture, state = architecture_of(model), model.state_dict()
    for _ in range(2):
        state = architecture.shifted(state, lambda shift, at: by(shift, at, 3.0, 1))
    state = architecture.shifted(state, lambda shift, at: -shift.read(at))
    for shift in architecture.shifts:
        close(shift.read(state), torch.zeros_like(shift.read(state)))


@pytest.mark.parametrize("make", [tower, bert], ids=["open_clip", "bert"])
def test_what_is_not_the_shift_changes_the_function(make):
    """A bias without its counterpart, a direction that is not the norm's: or the outputs above would say nothing."""
    torch.manual_seed(0)
    model = randomized(make().double(), 0)
    before, state = outputs(model), {k: v.clone() for k, v in model.state_dict().items()}
    for shift in architecture_of(model).shifts:
        if isinstance(shift, KeyBias) or shift.name.endswith("self.key"):
            continue  # what keys have in common is free: it has no counterpart, and needs none
        moved = added(state, shift, by(shift, state, 3.0, 1))
        whole = [key for key in state if not torch.equal(state[key], moved[key])]
        for key in whole:
            if isinstance(shift, StreamWrite) or len(whole) == 1:
                half = moved[key].clone()
                half.view(-1)[0] = state[key].view(-1)[0] - 1
            else:
                half = state[key]
            assert (computes(model, {**moved, key: half}) - before).abs().max() > 1e-6, (shift.name, key)


@pytest.mark.parametrize("make", [tower, bert], ids=["open_clip", "bert"])
def test_all_of_them_in_float32_agree_to_1e_3(make):
    """Each as large as what it is added to."""
    torch.manual_seed(0)
    model = randomized(make(), 0)
    before = outputs(model)
    state = architecture_of(model).shifted(model.state_dict(), lambda shift, at: by(shift, at, 1.0, 2))
    assert (computes(model, state) - before).abs().max() < 1e-3 * before.abs().max()


def test_cousins_have_no_shift_that_would_not_hold():
    scaled = architecture_of(tower(ls_init_value=0.5))
    assert not any(isinstance(shift, StreamWrite) for shift in scaled.shifts)
    biases = architecture_of(decoder(attention_bias=True, mlp_bias=True))
    assert [type(shift) for shift in biases.shifts] == [ValueBias, ValueBias]
    for make in (lambda: tower(ls_init_value=0.5), lambda: decoder(attention_bias=True, mlp_bias=True)):
        torch.manual_seed(0)
        model = randomized(make().double(), 0)
        before = outputs(model)
        state = architecture_of(model).shifted(model.state_dict(), lambda shift, at: by(shift, at, 3.0, 1))
        close(computes(model, state), before)


def test_a_norm_that_drops_a_channel_is_refused():
    model = bert()
    state = dict(model.state_dict())
    (read,) = (s for s in architecture_of(model).shifts if s.name == "encoder.layer.1.attention.self.value")
    state[read.scale] = state[read.scale].clone()
    state[read.scale][0] = 0
    with pytest.raises(ArenaError, match="drops a channel"):
        read.add(state, read.read(state))
