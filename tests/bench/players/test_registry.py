"""Players by name: what may be registered, and what a broken plug-in says."""

import sys
from importlib.metadata import EntryPoint
from typing import Literal

import pytest
import torch
from pydantic import ValidationError

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError, BadConfig, UnknownName
from mergearena.bench.games.backdoor import presets as backdoor
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.protection import presets as protection
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protection.players import Defense
from mergearena.bench.players import registry as registries
from mergearena.bench.players.player import Config
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Merge
from mergearena.bench.players.tier import Tier


@pytest.fixture(autouse=True)
def forgotten(registering):
    """Forget afterwards what a test registers or imports."""
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("mergearena_plugin_"):
            del sys.modules[name]


@pytest.fixture
def scaled():
    """A defense from a plain function."""

    @registry.register("defense")("registry-scaled", paper="arXiv 1234.56789", preserves_function=True)
    def scaled(victim, view, *, by: float = 2.0, how: Literal["up", "down"] = "up"):
        """Multiplies or divides every weight."""
        return {key: value * by if how == "up" else value / by for key, value in victim.items()}

    return registry.find("registry-scaled")


def test_keyword_only_parameters_become_the_config(scaled):
    assert {name: field.default for name, field in scaled.Config.model_fields.items()} == {"by": 2.0, "how": "up"}
    assert (scaled.kind, scaled.paper, scaled.preserves_function) == ("defense", "arXiv 1234.56789", True)
    assert scaled.__doc__ == "Multiplies or divides every weight."
    halved = parse_defense("registry-scaled(how=down)").protect({"w": torch.tensor(6.0)}, None)
    assert halved["w"] == 3


def test_an_option_may_have_the_name_of_a_dicts_method():
    @registry.register("defense")("registry-methods")
    def methods(victim, view, *, keys: float = 2.0, values: float = 3.0):
        """Multiplies every weight by both."""
        return {key: value * keys * values for key, value in victim.items()}

    assert parse_defense("registry-methods(values=5)").protect({"w": torch.tensor(1.0)}, None)["w"] == 10


def test_a_parameter_without_a_default_must_be_given():
    @registry.register("defense")("registry-needy")
    def needy(victim, view, *, by: float):
        """Needs a number."""
        return victim

    with pytest.raises(BadConfig, match="registry-needy: by"):
        registry.find("registry-needy")()
    assert registry.find("registry-needy")(by=1).spelling == "registry-needy(by=1.0)"


def test_configs_are_frozen_and_checked(scaled):
    player = scaled(by=3)
    with pytest.raises(ValidationError, match="frozen"):
        player.config.by = 4
    with pytest.raises(BadConfig, match="registry-scaled: unknown config key 'buy'; it takes: by, how"):
        scaled(buy=3)
    with pytest.raises(BadConfig, match="how='sideways' is not allowed"):
        scaled(how="sideways")
    with pytest.raises(BadConfig, match="by=nan is not allowed"):
        scaled(by=float("nan"))


def test_a_function_declares_its_tier():
    @registry.register("merge")("registry-tiered", tier="unlabelled")
    def tiered(models, view):
        """Nothing."""

    assert registry.find("registry-tiered")().tier is Tier.UNLABELLED


def test_a_class_is_registered_as_it_is():
    class Kept(Defense):
        """Nothing."""

        class Config(Config):
            x: int = 0

        def protect(self, victim, view):
            return victim

    assert registry.register("defense")("registry-kept")(Kept) is Kept is registry.find("registry-kept")
    assert Kept(x=2).spelling == "registry-kept(x=2)"
    assert Kept().spelling == "registry-kept"


def test_a_name_clash_names_both(scaled):
    with pytest.raises(ArenaError, match=r"'registry-scaled' of .*\.other is taken by .*\.scaled; choose another"):

        @registry.register("merge")("registry-scaled")
        def other(models, view):
            """Nothing."""

    assert registry.find("registry-scaled") is scaled


def test_a_docstring_is_required():
    with pytest.raises(ArenaError, match="'registry-mute' has no docstring"):

        @registry.register("merge")("registry-mute")
        def mute(models, view):
            pass

    with pytest.raises(UnknownName):
        registry.find("registry-mute")


@pytest.mark.parametrize("name", ["Registry-Loud", "registry/up", "registry up", "registry>ties", "7th", "r" * 65, ""])
def test_a_name_that_could_not_stand_everywhere_is_refused(name):
    with pytest.raises(ArenaError, match="is no name: it takes a lower-case"):

        @registry.register("merge")(name)
        def badly_named(models, view):
            """Nothing."""


def test_a_class_under_the_decorator_of_another_kind_is_refused():
    with pytest.raises(ArenaError, match="registered as defense but is a merge"):

        @registry.register("defense")("registry-wrong")
        class Wrong(Merge):
            """Nothing."""

            def merge(self, models, view):
                return {}


def test_find_suggests_the_nearest_names_of_the_kind():
    with pytest.raises(UnknownName, match="unknown merge 'tie'; did you mean 'ties'"):
        registry.find("tie", "merge")
    with pytest.raises(UnknownName, match=r"unknown defense 'zzzz'; there are: .*none.*params"):
        registry.find("zzzz", "defense")
    with pytest.raises(UnknownName, match="'ties' is a merge, not a defense"):
        registry.find("ties", "defense")


PLUGIN = '''
from mergearena import defenses

@defenses.register("registry-plugin")
def plugin(victim, view, *, times: int = 1):
    """Nothing, several times."""
    return victim
'''


def test_a_plugin_registers_its_players_and_may_be_loaded_again(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    load_plugin(path)
    load_plugin(path)
    assert parse_defense("registry-plugin(times=3)").defenses[0].config.times == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import not_a_module_anywhere", "ModuleNotFoundError: No module named 'not_a_module_anywhere'"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_plugin_is_one_clear_error(tmp_path, text, problem):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ArenaError) as caught:
        load_plugin(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: importing it raised {problem}")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["absent.py", "notes.txt", "."])
def test_a_plugin_that_is_no_python_file_is_refused(tmp_path, name):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ArenaError, match="not a Python file"):
        load_plugin(tmp_path / name)


def test_a_plugin_that_takes_a_name_says_so(tmp_path):
    path = tmp_path / "taken.py"
    path.write_text(PLUGIN.replace("registry-plugin", "params"))
    with pytest.raises(
        ArenaError, match=r"the name 'params' of mergearena_plugin_taken\.plugin is taken by mergearena\.defenses"
    ):
        load_plugin(path)


def test_our_entry_points_load_and_register_both_sides():
    assert registry.broken() == {}
    assert {player.kind for player in registry.players()} == {*registry.kinds}
    assert {player.__module__.split(".")[1] for player in registry.players()} == {"defenses", "attacks"}


def test_an_entry_point_that_fails_is_noted_and_stops_nothing(monkeypatch):
    bad = EntryPoint("theirs", "a_package_that_is_not_there", registries.ENTRY_POINTS[0])
    good = EntryPoint("ours", "mergearena.defenses.builtin", registries.ENTRY_POINTS[0])
    monkeypatch.setattr(registries, "entry_points", lambda group: [bad, good] if group == bad.group else [])
    registry._loaded = False
    registry.load()
    assert list(registry.broken()) == ["a_package_that_is_not_there"]
    assert "ModuleNotFoundError" in registry.broken()["a_package_that_is_not_there"]


def unplayed():
    """Registered players that no preset plays. Any merge is a merger."""
    tasks = tuple(suites.get("embedded").tasks)
    full, standard = protection.preset("full", "embedded", tasks), backdoor.preset("standard", "embedded", tasks)
    stages = [link for text in full.defenses for link in parse_defense(text).defenses]
    stages += [stage for text in full.attacks for stage in parse_attack(text).stages]
    stages += [stage for text in standard.mergers for stage in parse_merger(text).stages]
    stages += [parse_backdoor(text) for text in standard.attacks]
    played = {stage.name for stage in stages}
    return [player.name for player in registry.players() if player.name not in played]


def test_every_built_in_player_says_what_it_does_and_is_played_by_a_preset():
    assert all((player.__doc__ or "").strip() for player in registry.players())
    assert unplayed() == []


def test_a_player_that_no_preset_plays_is_found_though_its_name_is_part_of_another():
    @registry.register("merge")("tie")
    def tie(models, view):
        """Nothing."""

    assert unplayed() == ["tie"]
