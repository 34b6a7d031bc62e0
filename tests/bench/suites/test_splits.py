"""Splits are apart, shipped files are as shipped; and what breaks either is named."""

import shutil

import pytest
import torch
from rich.console import Console

from mergearena.bench import suites
from mergearena.bench.cli.commands import zoo
from mergearena.bench.suites import integrity
from mergearena.bench.suites.splits import leaks
from token_suite import TokenSuite


def leaky(suite, **inputs):
    """The suite with some splits' inputs replaced on every task."""

    class Leaky(type(suite)):
        def load(self, task, split):
            labels = suite.load(task, split)[1]
            return inputs.get(split, suite.load(task, split)[0]), labels

    return Leaky()


def test_no_split_of_the_embedded_suite_leaks():
    assert list(leaks(suites.get("embedded"))) == []


def test_a_test_picture_in_training_is_found_on_its_task(tiny):
    train, test = (tiny.load("a", split)[0].clone() for split in ("train", "test"))
    train[3] = test[7]
    assert "a: 1 example is in both train and test" in map(str, leaks(leaky(tiny, train=train, test=test)))


def test_a_text_is_the_same_however_far_it_is_padded():
    text = torch.tensor([[1, 9, 2]])
    suite = leaky(TokenSuite(), train=text, test=torch.tensor([[1, 9, 2, 0, 0]]), validation=torch.tensor([[1, 9, 3]]))
    found = list(leaks(suite))
    assert {leak.splits for leak in found} == {("train", "test")}


def test_verify_fails_on_a_leak_though_all_figures_agree(tiny, monkeypatch, capsys):
    train = tiny.load("a", "train")[0]
    figures = {"tasks": {}, "pairs": {}, "all_tasks": {}}
    figures["summary"] = dict.fromkeys(("zero_shot", "finetuned", "pairs_best", "pairs_default", "pairs_average"), 0.5)
    monkeypatch.setattr(zoo, "measure", lambda suite, on_merge: figures)
    monkeypatch.setattr(zoo.suites, "get", lambda name: leaky(tiny, train=train, validation=train))
    assert not zoo.verify("tiny", Console(width=200))
    assert "20 examples are in both train and validation" in capsys.readouterr().out
    apart = {split: torch.full((1, 2), float(i)) for i, split in enumerate(("train", "validation", "test"))}
    monkeypatch.setattr(zoo.suites, "get", lambda name: leaky(tiny, **apart))
    assert zoo.verify("tiny", Console(width=200))


def test_the_shipped_files_are_those_that_were_shipped():
    assert list(integrity.differing()) == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "zoo/a.safetensors is not the file"),
        (lambda path: path.unlink(), "zoo/a.safetensors is missing"),
    ],
)
def test_a_file_that_was_changed_or_lost_is_named(damage, says, tmp_path):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "a.safetensors").write_bytes(b"weights")
    shutil.copy(tmp_path / "zoo" / "a.safetensors", tmp_path / "zoo" / "b.safetensors")
    integrity.write_sums(tmp_path)
    assert list(integrity.differing(tmp_path)) == []
    damage(tmp_path / "zoo" / "a.safetensors")
    (said,) = integrity.differing(tmp_path)
    assert says in said
