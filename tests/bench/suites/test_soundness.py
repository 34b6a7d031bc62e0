"""Soundness: a suite's model that cannot be played with is named before anything is played."""

import warnings

import pytest
import torch
from tied_suite import HEAD, TiedSuite

from mergearena.bench.cli.main import main
from mergearena.bench.errors import ArenaWarning, BadCheckpoint
from mergearena.bench.games.protocol import protocol
from mergearena.bench.suites import soundness
from mergearena.bench.suites.base import Assessment
from mergearena.bench.suites.confined import confine
from tiny_suite import TinySuite

BIAS = "ln_post.bias"


class Odd(TinySuite):
    """The tiny suite, with a model of task b that something was done to."""

    name = "odd"

    def spoil(self, state):
        raise NotImplementedError

    def finetuned(self, task):
        state = super().finetuned(task)
        return self.spoil(state) if task == "b" else state


def odd(spoil):
    suite = Odd()
    suite.spoil = spoil
    return suite


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


FAULTS = {
    "missing": (lambda s: without(s, BIAS), f"left out '{BIAS}'"),
    "extra": (lambda s: {**s, "text.position_ids": torch.arange(3)}, "added 'text.position_ids'"),
    "shape": (lambda s: {**s, BIAS: torch.zeros(25)}, rf"'{BIAS}' from \(24,\) to \(25,\)"),
    "integers": (lambda s: {**s, BIAS: torch.zeros(24, dtype=torch.int64)}, f"dtype of '{BIAS}'"),
    "nan": (lambda s: {**s, BIAS: s[BIAS] * torch.nan}, f"NaN or infinity into '{BIAS}'"),
    "infinity": (lambda s: {**s, BIAS: s[BIAS] / 0}, f"NaN or infinity into '{BIAS}'"),
    "half-overflow": (lambda s: {k: (1e6 * v).half() for k, v in s.items()}, "NaN or infinity into"),
    "outputs": (lambda s: {**s, "proj": torch.full_like(s["proj"], 3e38)}, "answers NaN or infinity"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_message_names_suite_model_and_tensor(fault):
    spoil, words = FAULTS[fault]
    with pytest.raises(BadCheckpoint, match=words) as caught:
        soundness.check(odd(spoil), "ab")
    assert str(caught.value).startswith("suite 'odd': the model of 'b'")
    assert "zoo build" in str(caught.value)


def test_only_the_models_of_a_run_are_looked_at():
    soundness.check(odd(FAULTS["nan"][0]), "ac")


def test_a_base_that_does_not_fit_its_architecture_is_named_with_its_file(tmp_path):
    class Baseless(TinySuite):
        zoo = tmp_path

        def base(self):
            return without(super().base(), BIAS)

    (tmp_path / "base.safetensors").touch()
    with pytest.raises(BadCheckpoint, match=rf"suite 'tiny': the base \(.*base.safetensors\) left out '{BIAS}'"):
        soundness.check(Baseless(), "a")


def test_tied_weights_must_be_equal():
    class Untied(TiedSuite):
        def finetuned(self, task):
            state = super().finetuned(task)
            return {**state, HEAD: state[HEAD] + 1}

    soundness.check(TiedSuite(), "ab")
    with pytest.raises(BadCheckpoint, match=f"two values of one tensor.*{HEAD}"):
        soundness.check(Untied(), "ab")


def test_another_precision_is_cast_with_one_warning():
    suite = odd(lambda s: {k: v.bfloat16() for k, v in s.items()})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        soundness.check(suite, "abc")
    (warning,) = caught
    assert issubclass(warning.category, ArenaWarning)
    assert "the model of 'b' is stored in torch.bfloat16" in str(warning.message)
    handed = confine(suite, {task: suite.finetuned(task) for task in "ab"}, {}).finetuned("b")
    assert {value.dtype for value in handed.values()} == {torch.float32}
    assert torch.equal(handed[BIAS], suite.finetuned("b")[BIAS].float())


def test_sound_models_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        soundness.check(TinySuite(), "abc")


class Broken(TinySuite):
    """Task b's model is NaN: found by name."""

    name = "broken"

    def finetuned(self, task):
        state = super().finetuned(task)
        return FAULTS["nan"][0](state) if task == "b" else state


BROKEN = f"{__name__}:Broken"
NAIVE = "identity > average"


def test_a_run_is_not_begun(tmp_path, capsys, monkeypatch):
    with pytest.raises(BadCheckpoint):
        protocol(BROKEN, "ab", "k", 8)
    options = ["--match", "a+b", "--defense", "none", "--attack", NAIVE, "--out", str(tmp_path / "b.json")]
    options += ["--records", str(tmp_path / "records")]
    monkeypatch.setattr("sys.argv", ["mergearena", "run", "--suite", BROKEN, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "the model of 'b'" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("*.json"))


def test_answers_that_are_not_finite_are_wrong_ones():
    suite = TinySuite()
    state = suite.base() | {"proj": torch.full((24, 12), torch.nan)}
    inputs, labels = suite.load("a", "validation")
    found = suite.assess(state, "a", inputs, torch.zeros_like(labels))
    assert found.score == 0.0
    with pytest.raises(BadCheckpoint, match="merged: answers NaN or infinity on 'a'"):
        soundness.finite(found, "a", "merged")
    assert soundness.finite(Assessment(0.5, 1.0), "a", "merged") == 0.5


def test_one_broken_answer_costs_one_example(monkeypatch):
    suite = TinySuite()
    logits = torch.tensor([[2.0, 1.0, 0.0], [torch.nan] * 3, [2.0, torch.inf, torch.inf], [2.0, 1.0, 0.0]])
    monkeypatch.setattr(suite, "predict", lambda *_: logits)
    found = suite.assess({}, "a", torch.zeros(4), torch.tensor([0, 0, 1, 1]))
    assert found.score == 0.25
