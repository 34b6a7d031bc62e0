"""The text suite: packs, heads, features, and (once built) the fine-tuned models."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest
import torch

from mergearena.bench.errors import ArenaError, UnsupportedArchitecture
from mergearena.bench.suites.base import Split
from mergearena.bench.suites.text.build import Recipe, finetune
from mergearena.bench.suites.text.data import TASKS, read
from mergearena.bench.suites.text.suite import LOGIT_SCALE, LONGEST, TextSuite

SPLITS: tuple[Split, ...] = get_args(Split)
each_task = pytest.mark.parametrize("task", TASKS)


@pytest.fixture(scope="module")
def suite() -> TextSuite:
    return TextSuite()


@pytest.fixture(scope="module")
def built(suite: TextSuite) -> TextSuite:
    if not suite.ready:
        pytest.skip(f"the fine-tuned models are not in the cache ({suite.zoo}); prepare() builds them")
    return suite


def words(text: str) -> frozenset[str]:
    kept = "".join(c if c.isalnum() or c == "_" else " " for c in text.lower())
    return frozenset(kept.split())


@each_task
def test_splits_are_disjoint(task: str) -> None:
    texts = {split: {" ".join(sorted(words(t))) for t in read(TASKS[task], split)[0]} for split in SPLITS}
    for a, b in combinations(SPLITS, 2):
        assert not texts[a] & texts[b]


@each_task
def test_sizes_and_labels(task: str) -> None:
    for split, least, most in (("train", 4000, 12000), ("validation", 300, 300), ("test", 590, 600)):
        texts, labels = read(TASKS[task], split)
        assert least <= len(texts) == len(labels) <= most
        assert set(labels) == set(range(len(TASKS[task].classes)))


@pytest.mark.parametrize("task", ["sections", "supersense", "pos"])
def test_test_texts_have_no_sibling_in_training(task: str) -> None:
    by_word: dict[str, list[frozenset[str]]] = {}
    for text in read(TASKS[task], "train")[0]:
        own = words(text)
        for word in own:
            by_word.setdefault(word, []).append(own)
    for text in read(TASKS[task], "test")[0][::20]:
        own = words(text)
        near = (other for word in own for other in by_word.get(word, ()))
        assert all(len(own & other) < 0.6 * len(own | other) for other in near), text


def test_word_families_stay_in_one_split() -> None:
    families = [{text.lower()[:5] for text in read(TASKS["sentiment"], split)[0]} for split in SPLITS]
    assert all(not a & b for a, b in combinations(families, 2))


def test_no_model_trains_on_the_test_texts_of_another_task() -> None:
    test = {name: set(read(task, "test")[0]) for name, task in TASKS.items()}
    train = {name: set(read(task, "train")[0]) for name, task in TASKS.items()}
    assert all(not test[a] & train[b] for a in TASKS for b in TASKS)


def test_dataset_names_its_classes(suite: TextSuite) -> None:
    rows = suite.dataset("pos", "validation")
    assert rows.features["label"].names == list(TASKS["pos"].classes)
    texts, labels = read(TASKS["pos"], "validation")
    assert (rows["text"][:5], rows["label"][:5]) == (texts[:5], labels[:5])


@each_task
def test_head_rows_are_unit_vectors_times_the_scale(suite: TextSuite, task: str) -> None:
    head = suite.head(task)
    assert head.shape == (len(TASKS[task].classes), 384)
    assert len(TASKS[task].prompts) == len(TASKS[task].classes)
    torch.testing.assert_close(head.norm(dim=-1), torch.full((len(head),), LOGIT_SCALE))


def test_what_is_cached_serves_training_whoever_asks_first() -> None:
    suite = TextSuite()
    with torch.inference_mode():
        suite.load("sentiment", "validation")
        suite.encoder()
        suite.head("sentiment")
    inputs, labels = suite.load("sentiment", "validation")
    suite.loss(suite.encoder(), "sentiment", inputs[:2], labels[:2]).backward()


def test_base_is_float32_parameters_only(suite: TextSuite) -> None:
    base, encoder = suite.base(), suite.encoder()
    assert set(base) == {name for name, _ in encoder.named_parameters()}
    assert {value.dtype for value in base.values()} == {torch.float32}
    assert not any("position_ids" in key or "pooler" in key for key in base)
    assert not encoder.training
    encoder.load_state_dict(base)


def test_base_and_encoder_are_copies(suite: TextSuite) -> None:
    for value in suite.base().values():
        value.zero_()
    with torch.no_grad():
        for parameter in suite.encoder().parameters():
            parameter.zero_()
    assert all(value.any() for key, value in suite.base().items() if key.endswith("weight"))


@torch.inference_mode()
def test_features_ignore_padding(suite: TextSuite) -> None:
    texts = ["good", "a small animal that lives in trees and eats nuts", "audio player " * 30]
    model, batch = suite.encoder(), suite.tokens(texts)
    assert batch.shape == (3, LONGEST)
    alone = torch.cat([suite.features(model, suite.tokens([text])) for text in texts])
    torch.testing.assert_close(suite.features(model, batch), alone, atol=1e-5, rtol=1e-5)


def test_predict_restores_the_order(suite: TextSuite, monkeypatch) -> None:
    monkeypatch.setattr(TextSuite, "batch_size", 8)
    inputs, _ = suite.load("supersense", "validation")
    inputs = inputs[:20]
    with torch.inference_mode():
        expected = suite.outputs(suite.encoder(), "supersense", inputs)
    found = suite.predict(suite.base(), "supersense", inputs)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_missing_models_say_what_to_do(tmp_path) -> None:
    with pytest.raises(ArenaError, match=r"prepare\(\)"):
        TextSuite(zoo=tmp_path).finetuned("pos")


def test_an_encoder_of_another_family_is_refused(tmp_path) -> None:
    from transformers import RobertaConfig, RobertaModel

    tiny = RobertaConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    RobertaModel(tiny, add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedArchitecture, match="roberta"):
        TextSuite(base=tmp_path).base()


def test_fine_tuning_learns_and_repeats_exactly_with_any_number_of_threads(suite: TextSuite, monkeypatch) -> None:
    few = {split: tuple(column[:32] for column in suite.load("sentiment", split)) for split in SPLITS}
    monkeypatch.setattr(suite, "load", lambda _, split: few[split])
    recipe = Recipe(steps=2, batch=8, warmup=1, validate=(2,), seed=3)
    before, runs = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs.append(finetune(suite, "sentiment", recipe))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    (first, curve), (second, again) = runs
    assert curve == again
    assert curve.keys() == {2}
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], value) for key, value in suite.base().items())


def test_fine_tuning_examples_is_what_a_run_reads(suite: TextSuite) -> None:
    recipe = Recipe()
    assert suite.fine_tuning_examples == recipe.steps * recipe.batch
    assert max(recipe.validate) == recipe.steps


def test_stored_models_give_the_figures(built: TextSuite) -> None:
    figures = built.figures()
    assert figures is not None
    state = built.finetuned("sentiment")
    assert state.keys() == built.base().keys()
    # Another number of threads rounds differently, which may turn a near tie.
    expected = pytest.approx(figures["tasks"]["sentiment"]["finetuned"], abs=0.01)
    assert built.score(state, "sentiment", "test") == expected


def test_figures_reach_the_bars(built: TextSuite) -> None:
    figures = built.figures()
    assert figures is not None
    summary = figures["summary"]
    assert summary["finetuned"] >= 0.85
    assert summary["zero_shot"] <= 0.65
    assert summary["smallest_gain"] >= 0.10
    assert summary["pairs_best"] >= 0.85


def test_an_interrupted_build_goes_on_where_it_stopped(suite: TextSuite, tmp_path, monkeypatch) -> None:
    trained: list[str] = []

    def fake(_: TextSuite, task: str, *__: object) -> tuple[dict, dict]:
        if len(trained) == 2 and task not in trained:
            trained.append(task)
            raise KeyboardInterrupt
        trained.append(task)
        return {"weight": torch.ones(2)}, {1: 0.5}

    monkeypatch.setattr("mergearena.bench.suites.text.build.finetune", fake)
    monkeypatch.setattr("mergearena.bench.suites.text.build.measure", lambda *_, **__: {"summary": {}})
    with pytest.raises(KeyboardInterrupt):
        suite.build(tmp_path, seed=0)
    half = TextSuite(zoo=tmp_path)
    assert not half.ready
    assert half.figures() is None
    half.prepare()
    assert trained == ["sections", "supersense", "pos", "pos", "sentiment"]
    assert half.ready
    suite.build(tmp_path, seed=1)
    assert trained[5:] == list(TASKS)  # models of another seed are not reused


def test_probes_are_random_words_between_the_marks(suite: TextSuite) -> None:
    ids = suite.probes(6, torch.Generator().manual_seed(1))
    real = suite.tokens(["one text"])
    assert (ids[:, 0] == real[0, 0]).all()
    assert (ids[:, -1] == real[0, (real[0] != 0).sum() - 1]).all()
    assert ids[:, 1:-1].min() >= 1000
    assert ids.shape[1] <= LONGEST
    assert torch.isfinite(suite.features(suite.encoder(), ids)).all()
