"""Options: one table of them, from which everything that shows, declares or searches options is made."""

from typing import Annotated, Literal

import pytest
from pydantic import Field
from rich.console import Console

from mergearena import attacks
from mergearena.bench.cli.commands import players
from mergearena.bench.players.options import Searched, Unsearched, options_of
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Merge
from mergearena.bench.players.stand_in import declare
from mergearena.leaderboard.board.players import _options


class ManyConfig(AttackConfig):
    needed: int
    """Has no default."""
    made: list[float] = Field(default_factory=lambda: [0.5, 1.0])
    """Is made anew
    for every player."""
    choice: Annotated[float | Literal["chosen"] | None, Searched(0.1, 2.0)] = None
    silent: Annotated[bool, Unsearched()] = True


@pytest.fixture
def many(registering):
    @attacks.merger("options-many")
    class Many(Merge):
        """Has every kind of option."""

        Config = ManyConfig

        def merge(self, models, view):
            return dict(view.base)

    return registry.find("options-many")


def test_the_table_has_types_defaults_and_meanings_as_they_are_spelled_and_written(many):
    rows = {name: (o.type, o.default, o.required, " ".join(o.meaning.split())) for name, o in options_of(many).items()}
    assert rows == {
        "needed": ("int", "required", True, "Has no default."),
        "made": ("list[float]", "[0.5, 1.0]", False, "Is made anew for every player."),
        "choice": ("float | chosen | null", "null", False, ""),
        "silent": ("bool", "true", False, ""),
    }


def test_a_default_factory_is_no_required_option_wherever_options_are_told(many):
    console = Console(width=200)
    with console.capture() as shown:
        console.print(players.player("options-many"))
    (line,) = [line for line in shown.get().splitlines() if line.split()[:1] == ["made"]]
    assert "[0.5, 1.0]" in line
    assert {part.name: part.default for part in _options(many)}["made"] == "[0.5, 1.0]"
    told = {option.name: (option.required, option.default) for option in declare(many, "0" * 64).options}
    assert (told["made"], told["needed"]) == ((False, [0.5, 1.0]), (True, None))


def test_what_fields_say_to_studies_is_kept(many):
    assert options_of(many)["choice"].metadata == (Searched(0.1, 2.0),)
    assert options_of(many)["silent"].metadata == (Unsearched(),)
