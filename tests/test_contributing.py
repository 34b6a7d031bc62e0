"""The worked examples of CONTRIBUTING.md are what they say they are."""

import re

import pytest
import torch

from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.registry import registry
from paths import ROOT

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)


@pytest.fixture(scope="module", autouse=True)
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    for number, code in enumerate(EXAMPLES):
        path = folder / f"example{number}.py"
        path.write_text(code)
        load_plugin(path)


def test_the_defense_fits_forty_lines():
    assert len(EXAMPLES[0].splitlines()) <= 40


def test_the_defense_keeps_the_function_and_moves_the_weights(tiny, defender):
    victim = tiny.finetuned("a")
    released = registry.find("shuffle")(share=0.5).protect(dict(victim), defender())
    inputs, _ = tiny.load("a", "validation")
    torch.testing.assert_close(
        tiny.predict(released, "a", inputs), tiny.predict(victim, "a", inputs), rtol=1e-4, atol=1e-4
    )
    assert any(not torch.equal(released[k], victim[k]) for k in victim)


def test_the_attack_merges_halfway(attacker):
    view = attacker()
    merged = registry.find("halfway")(share=1.0).merge({"a": view.released, **view.donors}, view)
    torch.testing.assert_close(merged["proj"], (view.released["proj"] + view.donors["b"]["proj"]) / 2)
