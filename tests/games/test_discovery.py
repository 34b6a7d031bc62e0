"""Games are found: those of this project by their folders, others' by their entry points."""

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from mergearena.bench.errors import ArenaError, UnknownName
from mergearena.bench.games import game as discovery
from mergearena.bench.games.game import Games, games
from mergearena.leaderboard.board.games import GameBoard, board_of

OTHER = replace(games.find("protection"), name="other", order=0)


def entry(name, value):
    return EntryPoint(name, value, discovery.ENTRY_POINTS)


@pytest.fixture
def installed(monkeypatch):
    """Games as they would be found beside these entry points."""

    def found(*entries):
        monkeypatch.setattr(discovery, "entry_points", lambda group: entries if group == "mergearena.games" else ())
        return Games()

    return found


def test_this_project_has_the_games_of_its_folders_each_with_a_board():
    assert games.own == ("backdoor", "protection")
    assert [game.name for game in games.every()] == ["protection", "backdoor"]
    assert games.broken() == {}
    assert all(isinstance(board_of(name), GameBoard) for name in games.own)
    assert len({board_of(name).part for name in games.own}) == 2


def test_an_entry_point_adds_a_game(installed):
    found = installed(entry("other", f"{__name__}:OTHER"))
    assert found.find("other") is OTHER
    assert [game.name for game in found.every()] == ["other", "protection", "backdoor"]
    assert found.own == games.own, "what is installed is not this project's"


def test_an_entry_point_that_is_found_twice_is_one(installed):
    one = entry("other", f"{__name__}:OTHER")
    assert len(installed(one, one).every()) == 3


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("theirs", "a_package_that_is_not_there:GAME", "ModuleNotFoundError"),
        ("theirs", f"{__name__}:NOTHING", "AttributeError"),
        ("theirs", f"{__name__}:entry", "no Game named 'theirs'"),
        ("theirs", f"{__name__}:OTHER", "no Game named 'theirs'"),
    ],
)
def test_a_broken_one_is_noted_and_stops_nothing(installed, name, value, reason):
    found = installed(entry(name, value), entry("other", f"{__name__}:OTHER"))
    assert [game.name for game in found.every()] == ["other", "protection", "backdoor"]
    assert list(found.broken()) == [value]
    assert reason in found.broken()[value]
    with pytest.raises(UnknownName, match="unknown track 'theirs'; there are: other, protection, backdoor"):
        found.find("theirs")


PROTECTION = replace(OTHER, name="protection", board="theirs.board:BOARD")


def test_two_games_of_one_name_are_an_error(installed):
    found = installed(entry("protection", f"{__name__}:PROTECTION"))
    for _ in range(2):
        with pytest.raises(ArenaError, match=r"two games are named 'protection'.*theirs\.board:BOARD; rename one"):
            found.every()
    with pytest.raises(ArenaError, match="two games are named 'protection'"), games.added(PROTECTION):
        pass
    assert games.find("protection") is not PROTECTION


def test_what_is_added_is_gone_afterwards():
    with games.added(OTHER):
        assert games.find("other") is OTHER
    with pytest.raises(UnknownName):
        games.find("other")
