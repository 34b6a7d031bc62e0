"""What a run shows while it plays."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from mergearena.bench.cli.commands.run import shown
from mergearena.leaderboard.board.games import board_of
from tests.record_factory import make_record


@pytest.fixture
def log() -> Console:
    """A console that is no terminal."""
    return Console(file=StringIO(), width=120)


def lines(log: Console) -> list[str]:
    """What was printed, blank lines apart."""
    return [line for line in log.file.getvalue().splitlines() if line.strip()]


def test_a_log_gets_a_line_as_plays_finish(log):
    plays = [make_record(attack=name) for name in ("identity > average", "identity > ties", "identity > slerp")]
    with shown(board_of("protection"), plays, log, logged=0) as (listener, _):
        listener(plays[0], True)
        assert lines(log) == [], "what is reused was played before"
        listener(plays[1], False)
        listener(plays[2], False)
    first, second = lines(log)[:2]
    assert "2 of 3 plays" in first
    assert plays[1].title in first
    assert "3 of 3 plays" in second
    assert plays[2].title in second


def test_a_log_is_not_flooded(log):
    plays = [make_record(attack="identity > average")] * 50
    with shown(board_of("protection"), plays, log, logged=3600) as (listener, _):
        for play in plays:
            listener(play, False)
        assert lines(log) == []


def test_a_log_tells_how_far_a_long_play_is(log):
    play = make_record(attack=None)
    with shown(board_of("protection"), [play], log, logged=0) as (_, watcher):
        watcher(play, (3, 20))
        watcher(play, None)
    assert lines(log)[0].endswith(f"0 of 1 plays, {play.title}: step 3 of 20")


def test_a_log_is_not_flooded_with_steps(log):
    play = make_record(attack=None)
    with shown(board_of("protection"), [play], log, logged=3600) as (_, watcher):
        for step in range(50):
            watcher(play, (step, 50))
        assert lines(log) == []
