"""The embedded suite: packs that do not leak, weights that fit, figures that meet the bar and repeat."""

import json
from itertools import combinations

import pytest
import torch

from mergearena.bench import suites
from mergearena.bench.cli.commands.zoo import TOLERANCE, differences
from mergearena.bench.files.checkpoints import preflight
from mergearena.bench.suites.embedded import loading

SPLITS = ("train", "validation", "test")
suite = suites.get("embedded")
each_task = pytest.mark.parametrize("task", suite.tasks)


@each_task
def test_splits_share_no_picture(task):
    pictures = {split: {x.numpy().tobytes() for x in suite.load(task, split)[0]} for split in SPLITS}
    for split in SPLITS:
        assert len(pictures[split]) == len(suite.load(task, split)[1])
    assert all(pictures[a].isdisjoint(pictures[b]) for a, b in combinations(SPLITS, 2))


def test_no_animal_is_nearly_one_of_another_split():
    """Mean absolute grey difference under 4 % would be the same silhouette."""
    train, test = (suite.load("animals", split)[0][:, 0].flatten(1) / 2 for split in ("train", "test"))
    nearest = torch.cdist(test, train, p=1).min(1).values / train.shape[1]
    assert nearest.min() > 0.01


@each_task
def test_every_class_is_in_every_split(task):
    for split in SPLITS:
        assert set(suite.load(task, split)[1].tolist()) == set(range(len(suite.tasks[task].classes)))


@each_task
def test_heads_are_directions_times_one_scale(task):
    head = suite.head(task)
    assert head.shape[0] == len(suite.tasks[task].classes)
    norms = head.norm(dim=1)
    torch.testing.assert_close(norms, norms[0].expand_as(norms), rtol=1e-4, atol=0)


@each_task
def test_finetuned_models_fit_the_base(task):
    preflight(suite.finetuned(task), suite.base(), task)


def test_dataset_and_tensors_agree():
    rows, (inputs, labels) = suite.dataset("digits", "validation"), suite.load("digits", "validation")
    assert rows["label"][:] == labels.tolist()
    assert rows.features["label"].names == list(suite.tasks["digits"].classes)
    assert inputs.shape == (len(rows), 3, 28, 28)


def test_heads_cached_in_inference_mode_still_train():
    fresh = type(suite)()
    state, (inputs, labels) = fresh.base(), fresh.load("digits", "validation")
    fresh.predict(state, "digits", inputs[:4])
    model = fresh.encoder()
    fresh.loss(model, "digits", inputs[:4], labels[:4]).backward()
    assert model.proj.grad is not None


def test_sizes_stay_under_their_limits():
    weights = sum(p.stat().st_size for p in loading.ZOO.glob("*.safetensors"))
    data = sum(p.stat().st_size for p in loading.DATA.rglob("*.parquet"))
    assert weights < 25e6
    assert data < 12e6
    assert weights + data < 30e6


def test_the_stored_figures_meet_the_bar():
    figures = json.loads((loading.ZOO / "figures.json").read_text())["summary"]
    assert figures["finetuned"] >= 0.88
    assert figures["zero_shot"] <= 0.65
    assert figures["smallest_gain"] >= 0.10
    assert figures["pairs_best"] >= 0.70
    assert figures["all_tasks_best"] >= 0.30


def test_the_stored_figures_repeat_for_two_tasks():
    measured = {
        task: {
            "zero_shot": suite.score(suite.base(), task, "test"),
            "finetuned": suite.score(suite.finetuned(task), task, "test"),
        }
        for task in ("digits", "textures")
    }
    assert not list(differences(suite.figures() or {}, {"tasks": measured}))
    wrong = {"tasks": {"digits": {"zero_shot": measured["digits"]["zero_shot"] + 2 * TOLERANCE}}}
    assert list(differences(suite.figures() or {}, wrong))


def test_a_text_too_long_for_the_text_tower_is_refused():
    with pytest.raises(ValueError, match="tokens; the text tower reads"):
        loading.tokenize(["x" * 100])


def test_probes_are_grey_pictures_of_noise_in_range_that_repeat_under_one_seed():
    first, again = (suite.probes(5, torch.Generator().manual_seed(1)) for _ in "ab")
    assert torch.equal(first, again)
    assert first.shape == (5, *suite.load("mnist", "validation")[0].shape[1:])
    assert first.abs().max() <= 1
    assert torch.equal(first[:, 0], first[:, 1])
    assert len({x.numpy().tobytes() for x in first}) == 5
    step = (first[..., 1:] - first[..., :-1]).abs().mean()
    assert step < 0.5 * (first[..., torch.randperm(28)] - first).abs().mean()  # smooth: neighbours are alike
