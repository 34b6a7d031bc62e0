"""What the board keeps of each defense beyond its rank: releases, strongest attacks, evidence, its author's words."""

import pytest

from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.registry import registry
from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.protection.parts import SuiteBoard
from record_factory import ALIGNED, NAIVE, make_record

WORLD = [
    make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3)),
    make_record(attack=None, test=(0.8,)),
    make_record(test=(0.9, 0.8)),
    make_record(defense="params", attack=None, test=(0.76,), logit_difference=0.25),
    make_record(defense="params", test=(0.6, 0.78)),
]


def row(records, defense="params"):
    (suite,) = build(records).of(SuiteBoard)
    return next(row for row in suite.defenses if row.defense == defense)


def test_the_strongest_attack_comes_with_the_accuracies_of_its_merge():
    (worst,) = {(w.attack, w.score, w.donor_score) for w in row(WORLD).worst}
    assert worst == (NAIVE, 0.6, 0.78)


def test_where_no_attack_qualifies_there_is_no_merge_to_speak_of():
    harmful = [*WORLD[:4], make_record(defense="params", test=(0.9, 0.1))]
    assert {(w.attack, w.score, w.donor_score) for w in row(harmful).worst} == {(None, None, None)}


def test_releases_are_kept_one_by_one():
    (release,) = row(WORLD).releases
    assert (release.victim, release.seed, release.score, release.logit_difference) == ("v", 0, 0.76, 0.25)
    assert release.fidelity == pytest.approx(0.76 / 0.8)


def test_history_says_what_each_round_of_evidence_changed():
    stronger = make_record(defense="params", attack=ALIGNED, test=(0.8, 0.8), round=2)
    first, second = row([*WORLD, stronger]).history
    assert (first.round, first.attacks, second.round, second.attacks) == (0, (NAIVE,), 2, (ALIGNED,))
    assert first.resistance["data-free"] == pytest.approx(1 - 0.1 / 0.4)
    assert second.resistance["data-free"] == pytest.approx(1 - 0.3 / 0.4)
    assert second.resistance["data-free"] == row([*WORLD, stronger]).resistance["data-free"].mean


def met(name):
    provenance = WORLD[0].provenance.model_copy(update={"code": {name: "c" * 64}})
    return build([WORLD[0].model_copy(update={"provenance": provenance})]).players


def test_players_are_described_in_their_own_words():
    (player,) = met("params")
    ours = registry.find("params")
    assert (player.name, player.kind, player.paper) == ("params", "defense", ours.paper)
    assert player.description.split() == ours.__doc__.split()
    assert {option.name for option in player.options} == set(ours.Config.model_fields)
    scaling = next(option for option in player.options if option.name == "scaling")
    assert scaling.default == ours().config.scaling


def test_players_from_elsewhere_are_not_described(tmp_path):
    """What is installed or loaded beside this project must not change a board."""
    path = tmp_path / "stranger.py"
    path.write_text(
        "from mergearena import defenses\n\n\n@defenses.register('stranger')\n"
        "def stranger(victim, view):\n    '''Nothing.'''\n    return victim\n"
    )
    load_plugin(path)
    try:
        assert met("stranger") == met("unheard-of") == ()
    finally:
        registry.forget(registry.find("stranger"))
