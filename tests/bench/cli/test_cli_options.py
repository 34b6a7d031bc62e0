"""Commands whose options are the fields of a dataclass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mergearena.bench.cli.asked.playing import Limited
from mergearena.bench.cli.asked.run import RunOptions
from mergearena.bench.cli.asked.study import StudyOptions
from mergearena.bench.cli.options import CORES, takes


@dataclass(frozen=True, kw_only=True)
class Asked(Limited):
    what: Annotated[str, typer.Argument(help="What.")]
    times: Annotated[int, typer.Option(min=1, help="How often.")] = 2
    each: Annotated[list[str] | None, typer.Option("--one", help="Some. Repeatable.")] = None


@pytest.fixture
def ask():
    """A function that runs a command, and gives what it was called with and what was printed."""
    app, called = typer.Typer(), []

    @app.command()
    @takes(Asked)
    def command(asked: Asked) -> None:
        """Says nothing."""
        called.append(asked)

    def run(*arguments):
        result = CliRunner().invoke(app, arguments)
        return (called.pop() if called else None), result

    return run


def test_a_command_is_called_with_what_was_typed_and_defaults_for_the_rest(ask):
    asked, result = ask("it", "--one", "a", "--one", "b", "--jobs", "1")
    assert result.exit_code == 0
    assert asked == Asked(what="it", each=["a", "b"], jobs=1)
    assert (asked.times, asked.timeout) == (2, 600.0)
    assert asked.limits.threads == CORES


@pytest.mark.parametrize("arguments", [(), ("it", "--times", "0"), ("it", "--unknown")])
def test_what_cannot_be_is_refused(ask, arguments):
    asked, result = ask(*arguments)
    assert asked is None
    assert result.exit_code == 2


def test_the_help_has_the_commands_own_words_and_options_first(ask):
    _, result = ask("--help")
    assert "Says nothing." in result.output
    assert result.output.index("--times") < result.output.index("--jobs")


def test_files_go_below_the_suites_folder_unless_told_otherwise():
    asked = RunOptions(suite="text", track="backdoor")
    assert (asked.record_folder, asked.board_file) == (Path("runs/text/records"), Path("runs/text/backdoor.json"))
    assert RunOptions().board_file == Path("runs/embedded/leaderboard.json")
    assert RunOptions(out=Path("b.json")).board_file == Path("b.json")


def test_stages_may_be_listed_or_repeated():
    asked = StudyOptions(defense="params", trials=1, stages=["ties, average", "dare"])
    assert asked.only == ("ties", "average", "dare")
