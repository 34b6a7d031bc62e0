"""Gates: each passes what it should, fails what breaks it, and says what to do."""

import sys
from pathlib import Path

import pytest
from rich.console import Console

from mergearena.bench.cli.commands.submit import check, split
from mergearena.bench.errors import ArenaError
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stand_in import declare, declare_all, stand_in
from mergearena.bench.runner.executors.executor import Setting
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.workplace import Workplace
from mergearena.bench.submit import gates, template, verdicts
from mergearena.bench.submit.read_only import WroteInput, inputs_read_only
from mergearena.bench.submit.roles import entry_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="players' processes need Linux")

HEADER = """\"\"\"A submission.\"\"\"

import torch

from mergearena import attacks
from mergearena import defenses
from mergearena.bench.symmetry.architecture import Element


"""


def noisy(body, decorator='defenses.register("mine")', arguments="victim, view"):
    """A submission that runs ``body``; ``noise`` is drawn as it should be."""
    return f'''{HEADER}@{decorator}
def mine({arguments}):
    """Add noise."""
    noise = {{k: 1e-4 * torch.randn(v.shape, generator=view.generator) for k, v in view.base.items()}}
    {body}
'''


FAILING = {
    "imports alone": ("import a_package_that_is_not_there", "No module named"),
    "registers a player": ('"""Nothing."""', "it registers none"),
    "config documented": (
        noisy(
            "return {k: v + noise[k] for k, v in victim.items()}", arguments="victim, view, *, strength: float = 1.0"
        ),
        "strength is explained nowhere",
    ),
    "runs on a toy": (noisy("return {'visual.proj': victim['visual.proj']}"), "open_clip: KeyError"),
    "same keys": (noisy("return {k: v.double() for k, v in victim.items()}"), "changed the dtype"),
    "its tier": (
        noisy(
            "return {k: v + view.labelled(view.victim)[1].sum() for k, v in view.base.items()}",
            'attacks.merger("mine")',
            "models, view",
        ),
        "a data-free player asked for labelled examples",
    ),
    "the limits": (noisy("raise SystemExit(0)"), "ended without a result"),
    "inputs untouched": (
        noisy("[v.add_(noise[k]) for k, v in victim.items()]\n    return dict(victim)"),
        "add_ wrote to the input",
    ),
    "same seed": (
        noisy("import time\n    return {k: v + noise[k] * (time.time() % 1) for k, v in victim.items()}"),
        "two runs with one seed",
    ),
    "another seed": (noisy("return dict(victim)"), "whoever knows its code can repeat it"),
    "every model": (
        noisy(
            "first, second, third = models.values()\n    return {k: (v + second[k]) / 2 for k, v in first.items()}",
            'attacks.merger("mine")',
            "models, view",
        ),
        "1 of 3 models can be exchanged",
    ),
    "the function": (
        noisy(
            "return {k: v + 100 * noise[k] for k, v in victim.items()}",
            'defenses.register("mine", preserves_function=True)',
        ),
        "logits change by",
    ),
}


def failures(path, name=None):
    return [gate for gate in gates.check(path, name) if gate.status == "failed"]


@pytest.mark.parametrize("gate", FAILING)
def test_a_gate_fails_what_breaks_it_and_says_what_to_do(gate, tmp_path, monkeypatch):
    monkeypatch.setattr(gates, "_fidelity", lambda *arguments: verdicts.Gate("fidelity", "skipped"))
    text, says = FAILING[gate]
    path = tmp_path / "mine.py"
    path.write_text(text)
    (found,) = failures(path)
    assert gate in found.name
    assert says in found.detail
    assert found.remedy
    assert not any(player.name == "mine" for player in registry.players())


def test_a_defense_meets_a_real_victim(tmp_path):
    found = list(gates.check(template.write("defense", "my-own", False, tmp_path), None))
    assert [gate for gate in found if gate.status == "failed"] == []
    (fidelity,) = [gate for gate in found if "real victim" in gate.name]
    assert fidelity.status == "passed"
    assert "before" in fidelity.detail


@pytest.mark.slow
@pytest.mark.parametrize("as_class", [False, True])
@pytest.mark.parametrize("kind", ["defense", "align", "merge", "recover", "safe-merge", "contributor"])
def test_every_template_passes_every_gate(kind, as_class, tmp_path):
    assert failures(template.write(kind, "my-own", as_class, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [player.name for player in registry.players()])
def test_every_player_of_this_project_passes_the_gates_on_toys(name, tmp_path, monkeypatch):
    monkeypatch.setattr(gates, "_fidelity", lambda *arguments: verdicts.Gate("fidelity", "skipped"))
    entry = entry_of(declare(registry.find(name), "0" * 64))
    with Workplace(tmp_path, Setting(limits=Limits(seconds=120))) as place:
        assert [gate for gate in gates._played(place, entry) if gate.status == "failed"] == []


def test_the_command_marks_every_gate_and_exits_1_on_a_cross(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("import a_package_that_is_not_there")
    assert not check(str(path), Console(width=200))
    out = capsys.readouterr().out
    assert "✗ imports alone" in out
    assert "remedy:" in out
    assert "1 gate failed" in out


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ArenaError, match="no such file"):
        failures(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("target", "parts"), [("a/b.py:x-y", (Path("a/b.py"), "x-y")), ("a/b.py", (Path("a/b.py"), None))]
)
def test_a_target_is_a_file_and_perhaps_a_name(target, parts):
    assert split(target) == parts


def test_inputs_are_refused_in_place_and_found_when_they_slip_by(tiny, defender, monkeypatch):
    params = registry.find("params")
    victim = tiny.finetuned("a")
    for write in (lambda state: state["proj"].mul_(2), lambda state: state.pop("proj")):
        monkeypatch.setattr(params, "protect", lambda self, state, view, write=write: write(state))
        with pytest.raises(WroteInput, match="proj"), inputs_read_only(params):
            params().protect(dict(victim), defender())


def test_a_stand_in_is_spelled_and_hashed_like_the_player_but_cannot_be_played(tmp_path, registering, defender, tiny):
    path = template.write("defense", "stood-in-for", True, tmp_path)
    load_plugin(path)
    (declared,) = declare_all(path)
    real = registry.find("stood-in-for")
    registry.forget(real)
    player = stand_in(declared)
    assert (player().spelling, player(share=0.5).spelling) == (real().spelling, real(share=0.5).spelling)
    assert (player.preserves_function, player.source) == (True, declared.source)
    with pytest.raises(ArenaError, match="stand-in"):
        player().protect(tiny.finetuned("a"), defender())
