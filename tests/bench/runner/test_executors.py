"""Executors: chosen by name, exchangeable, and told apart in records."""

import pytest
from inline_executor import Inline

from mergearena import defenses
from mergearena.bench.errors import UnknownName
from mergearena.bench.games import archive
from mergearena.bench.games.protection import Match, plan
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protocol import protocol
from mergearena.bench.runner import executors
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.executors.local import Local
from mergearena.bench.runner.run import run

SUITE = "tiny_suite:TinySuite"
NAIVE = "identity > average"


@pytest.fixture
def raising(registering):
    """A defense that fails, known to this process alone."""

    @defenses.register("raises-here")
    def raises_here(victim, view):
        """Tell a step, and raise."""
        view.progress(1, 2)
        raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lokal", "did you mean 'local'"),
        ("cluster", "there are: local, or your own module:Class"),
        ("inline_executor:Inlin", "could not be loaded"),
        ("nowhere:Executor", "could not be loaded"),
    ],
)
def test_an_unknown_executor_is_one_clear_error(name, says):
    with pytest.raises(UnknownName, match=says):
        executors.get(name)


def test_executors_are_found_by_name():
    assert executors.get("local") is Local
    assert executors.get("inline_executor:Inline") is Inline
    assert executors.names() == ("local",)


def test_a_second_executor_is_one_file(tmp_path, raising):
    told = []
    plays = plan(
        protocol(SUITE, "ab", "k", examples=8),
        [Match(SUITE, "a", ("b",))],
        (0,),
        [parse_defense("params"), parse_defense("raises-here")],
        [parse_attack(NAIVE), parse_attack("identity > average > finetune(steps=1, batch_size=2)")],
    )
    options = {"jobs": 2, "limits": Limits(), "watcher": lambda job, steps: told.append((job.defense.spelling, steps))}
    first = run(plays, tmp_path, executor="inline_executor:Inline", **options)
    status = {(r.defense, r.attack): (r.status, r.reason) for r in first.records}
    assert len(status) == 9
    assert {status[defense, None][0] for defense in ("none", "params")} == {"ok"}
    assert {status[defense, NAIVE][0] for defense in ("none", "params")} == {"ok"}
    assert status["raises-here", None] == ("failed", "RuntimeError: boom")
    assert status["raises-here", NAIVE] == ("failed", "there is nothing to start from: raises-here on a failed")
    assert ("raises-here", (1, 2)) in told
    assert {r.provenance.executor for r in archive.read_all(tmp_path)} == {"inline_executor:Inline"}
    assert Inline.open == 0
    assert run(plays, tmp_path, executor="inline_executor:Inline", **options).reused == 9


def test_what_an_executor_raises_aborts_it_and_is_not_recorded(tmp_path, monkeypatch):
    def breaks(self, play, given, files, out):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Inline, "play", breaks)
    plays = plan(
        protocol(SUITE, "a", "k", examples=8), [Match(SUITE, "a", ("b",))], (0,), [parse_defense("params")], []
    )
    with pytest.raises(OSError, match="No space"):
        run(plays, tmp_path, jobs=1, limits=Limits(), executor="inline_executor:Inline")
    assert list(archive.read_all(tmp_path)) == []
    assert Inline.open == 0
