"""Scoring: what a submitted player is played against, under which key, and where it stands."""

import json
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from mergearena.bench.cli.asked.submit import ScoreOptions
from mergearena.bench.cli.commands.submit import score
from mergearena.bench.errors import ArenaError
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.games.protection.presets import AUTO
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stand_in import declare_all, standing_in
from mergearena.bench.players.tier import Tier
from mergearena.bench.records import official
from mergearena.bench.submit import template
from mergearena.bench.submit.roles import ROLES, entry_of
from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.board.place import place
from mergearena.leaderboard.protection.parts import SuiteBoard
from record_factory import make_record

SUITE = "tiny_suite:TinySuite"


@pytest.fixture
def submitted(tmp_path, registering):
    """A function that declares a template's player, which stands in for it afterwards."""

    def declared(kind):
        path = template.write(kind, f"my-{kind}", False, tmp_path)
        load_plugin(path)
        (declaration,) = declare_all(path)
        registry.forget(registry.find(f"my-{kind}"))
        return declaration

    return declared


def test_a_defense_meets_every_step_of_auto_under_the_fresh_key_and_references_under_a_public_one(submitted):
    player = submitted("defense")
    with standing_in(player):
        plays = entry_of(player).plan(SUITE, "quick", "fresh")
        keys = {(play.defense.spelling, play.protocol.key) for play in plays}
        met = {play.attack.spelling for play in plays if play.defense.spelling == "my-defense" and play.attack}
    assert keys == {("none", official.KEY), ("my-defense", "fresh")}
    assert met >= {*AUTO, "identity > task-arithmetic"}


@pytest.mark.parametrize(
    ("kind", "spelled"),
    [
        ("align", "my-align > task-arithmetic"),
        ("merge", "weight-matching+gauge-anchor > my-merge"),
        ("recover", "weight-matching+gauge-anchor > task-arithmetic > my-recover"),
    ],
)
def test_an_attacks_stage_meets_every_defense_in_a_whole_pipeline(kind, spelled, submitted):
    player = submitted(kind)
    with standing_in(player):
        plays = entry_of(player).plan(SUITE, "quick", "fresh")
        defenses = {play.defense for play in plays}
        assert {play.defense for play in plays if play.attack == parse_attack(spelled)} == defenses
    assert len(defenses) > 3


def test_mergers_and_contributors_meet_each_other(submitted):
    for kind in ("safe-merge", "contributor"):
        player = submitted(kind)
        with standing_in(player):
            plays = entry_of(player).plan(SUITE, "quick", "fresh")
            mine = [p for p in plays if f"my-{kind}" in [side.spelling for side in (p.attack, p.defense) if side]]
        assert len({(p.attack, p.defense) for p in mine}) > 2
        assert all(play.target is not None for play in mine if play.attack)


def board(recovered, hard=None):
    """Defense -> what an attack recovers of it, between a floor of 0.5 and a ceiling of 0.9; ``hard``: on a second
    match, if there is one.
    """
    records = [make_record(attack=None, defense=defense) for defense in ("none", *recovered)]
    for donors, shares in {("d",): recovered, ("e",): hard}.items():
        if shares:
            records.append(make_record(attack="base-only", uses_victim=False, donors=donors, test=(0.5, 0.9)))
            for defense, share in {"none": 1.0, **shares}.items():
                records.append(make_record(defense=defense, donors=donors, test=(0.5 + 0.4 * share, 0.9)))
    return build(records)


@pytest.fixture
def entry(submitted):
    """A defense called my-defense."""
    player = submitted("defense")
    with standing_in(player):
        yield entry_of(player)


def test_a_defense_is_placed_among_those_of_the_committed_board(entry):
    others = board({"params": 0.2, "mergelock": 0.6})
    for share, expected in ((0.1, 1), (0.4, 2), (0.9, 3)):
        mine = board({"my-defense": share})
        (row,) = [r for r in mine.of(SuiteBoard)[0].defenses if r.defense == "my-defense"]
        assert row.resistance[Tier.DATA_FREE].mean == pytest.approx(1 - share)
        assert f"place {expected} of 4 on the committed board" in place(entry, mine, others)
    assert "place 1 of 2 among those played along" in place(entry, board({"my-defense": 0.1}), None)


def test_a_defense_is_placed_over_the_matches_that_it_was_played_on(entry):
    others = board({"params": 0.2, "mergelock": 0.6}, hard={"params": 1.0, "mergelock": 1.0})
    found = place(entry, board({"my-defense": 0.4}), others)
    assert "place 2 of 4 on the committed board, over the same 1 match" in found
    fewer = board({"my-defense": 0.4, "none": 1.0}, hard={"my-defense": 0.4, "none": 1.0})
    elsewhere = place(entry, fewer, board({"params": 0.2}))
    assert "place 1 of 1 on the committed board" in elsewhere


def test_a_pipeline_of_the_submitters_own_has_one_spelling(submitted):
    player = submitted("recover")
    with standing_in(player):
        assert entry_of(player, "identity>ties >my-recover").spelling == "identity > ties > my-recover"
        with pytest.raises(ArenaError, match="an attack is"):
            entry_of(player, "my-recover > ties").plan(SUITE, "quick", "fresh")


def test_every_kind_of_player_has_a_role():
    assert {*ROLES} == {*registry.kinds}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="players' processes need Linux")
def test_a_score_writes_a_submission_whose_records_carry_the_files_hash(tmp_path, monkeypatch, registering):
    monkeypatch.chdir(tmp_path)
    path = template.write("defense", "my-own", False, tmp_path)
    options = ScoreOptions(target="my_own.py", suite=SUITE, author=["me"], jobs=2)
    assert score(options, Console(quiet=True)) == 0
    told = json.loads((tmp_path / "submissions" / "my-own" / "submission.json").read_text())
    assert (told["kind"], told["players"], told["config"]) == ("defense", ["my-own"], {"share": 1.0})
    records = [json.loads(p.read_text()) for p in (tmp_path / "submissions/my-own/records").rglob("*.json")]
    mine = [record for record in records if record["defense"] == "my-own"]
    assert {record["provenance"]["code"]["my-own"] for record in mine} == {told["code"]["sha256"]}
    assert {record["key"] for record in mine}.isdisjoint({official.KEY})
    with pytest.raises(ArenaError, match="exists; delete it"):
        score(replace(options, target=str(path)), Console(quiet=True))
