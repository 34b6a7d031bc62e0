"""Checkpoints: safetensors only, whole or absent, and refused with the name of what is wrong."""

import errno
import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

from mergearena.bench.errors import BadCheckpoint
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import fingerprint, preflight


@pytest.fixture
def model():
    return {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2), "n": torch.tensor(3)}


def broken(state, how):
    bad = {key: value.clone() for key, value in state.items()}
    if how == "missing":
        del bad["b"]
    elif how == "extra":
        bad["router"] = torch.ones(1)
    elif how == "shape":
        bad["w"] = bad["w"].T
    elif how == "dtype":
        bad["w"] = bad["w"].double()
    elif how in ("nan", "inf"):
        bad["w"][0, 0] = float(how)
    elif how == "tuple":
        return tuple(bad.values())
    elif how == "numbers":
        return {key: value.tolist() for key, value in bad.items()}
    return bad


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("missing", "left out 'b'"),
        ("extra", "added 'router'"),
        ("shape", "shape of 'w' from (2, 3) to (3, 2)"),
        ("dtype", "dtype of 'w' from torch.float32 to torch.float64"),
        ("nan", "NaN or infinity into 'w'"),
        ("inf", "NaN or infinity into 'w'"),
        ("tuple", "returned tuple"),
        ("numbers", "dict of parameter name -> tensor"),
    ],
)
def test_preflight_names_the_player_and_what_is_wrong(model, how, named):
    with pytest.raises(BadCheckpoint, match=re.escape(named)) as caught:
        preflight(broken(model, how), model, "defense params")
    assert str(caught.value).startswith("defense params ")
    assert "\n" not in str(caught.value)


def test_preflight_shortens_long_lists(model):
    like = {f"layer.{i}": torch.ones(1) for i in range(9)}
    with pytest.raises(BadCheckpoint, match=r"'layer\.0', 'layer\.1', 'layer\.2' and 6 more"):
        preflight({}, like, "it")


def test_preflight_returns_what_fits_detached_and_in_the_order_of_the_model(model):
    state = {key: value.clone() for key, value in reversed(model.items())}
    state["w"].requires_grad_()
    checked = preflight(state, model, "it")
    assert list(checked) == list(model)
    assert not checked["w"].requires_grad
    assert all(torch.equal(checked[key], model[key]) for key in model)


def test_round_trip(tmp_path, model):
    state = model | {"half": torch.ones(2, dtype=torch.bfloat16), "transposed": model["w"].T}
    path = tmp_path / "deep" / "model.safetensors"
    checkpoints.save(state, path)
    exact, cast = checkpoints.load(path, dtype=None), checkpoints.load(path)
    assert fingerprint(exact) == fingerprint(state)
    assert cast["half"].dtype == torch.float32
    assert cast["n"].dtype == torch.int64


def test_tensors_that_share_memory_are_saved_apart(tmp_path):
    weight = torch.arange(4.0)
    state = {"tied": weight, "to": weight, "tail": weight[2:]}
    checkpoints.save(state, tmp_path / "model.safetensors")
    loaded = checkpoints.load(tmp_path / "model.safetensors")
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_pickles_are_refused(tmp_path, model, how):
    path = tmp_path / "model.bin"
    if how == "torch.save":
        torch.save(model, path)
    else:
        path.write_bytes(pickle.dumps({"w": [1.0]}))
    with pytest.raises(BadCheckpoint, match=f"{re.escape(str(path))}: a pickled checkpoint"):
        checkpoints.load(path)


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_file_is_refused(tmp_path, model, kept):
    path = tmp_path / "model.safetensors"
    save_file(model, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadCheckpoint, match="not a readable safetensors file"):
        checkpoints.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadCheckpoint, match=re.escape(f"{tmp_path / 'gone'}: no such checkpoint")):
        checkpoints.load(tmp_path / "gone")


def test_a_refused_save_keeps_the_old_file_and_leaves_nothing_else(tmp_path, model, monkeypatch):
    path = tmp_path / "model.safetensors"
    checkpoints.save(model, path)

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save({"w": torch.zeros(1)}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert fingerprint(checkpoints.load(path)) == fingerprint(model)


def test_fingerprint_is_independent_of_key_order_and_memory_layout(model):
    same = {key: value.clone() for key, value in reversed(model.items())}
    same["w"] = same["w"].T.contiguous().T
    assert fingerprint(same) == fingerprint(model)


def one_bit(value):
    bits = value.clone().view(torch.int32)
    bits[0, 0] ^= 1
    return bits.view(torch.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m | {"w": one_bit(m["w"])},
        lambda m: m | {"w": m["w"].view(torch.int32)},  # the same bytes of another dtype
        lambda m: m | {"w": m["w"].reshape(3, 2)},
        lambda m: {("v" if key == "w" else key): value for key, value in m.items()},
        lambda m: {key: value for key, value in m.items() if key != "b"},
    ],
    ids=["one bit", "dtype", "shape", "name", "one fewer"],
)
def test_fingerprint_sees_every_difference(model, change):
    assert fingerprint(change(model)) != fingerprint(model)
