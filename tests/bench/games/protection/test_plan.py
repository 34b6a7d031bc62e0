"""The plan: what is shared is played once, and an id changes exactly with what decides the outcome."""

import pickle
from dataclasses import replace

import pytest
import torch

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError, UnknownName
from mergearena.bench.games.base import Files
from mergearena.bench.games.match import parse_tasks, spell
from mergearena.bench.games.protection import Match, Play, draw_examples, plan, presets
from mergearena.bench.games.protection.grid import _within
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protection.presets import preset
from mergearena.bench.players.registry import registry
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.protocol import Protocol

HASHES = {"base": "0", "a": "1", "b": "2", "c": "3"}
PROTOCOL = Protocol(suite="tiny", key="key", examples=16, checkpoints=HASHES)
PARAMS, TIES = parse_defense("params"), parse_attack("identity > ties")
PLAY = Play(protocol=PROTOCOL, victim="a", donors=("b",), seed=0, defense=PARAMS, attack=TIES)


def planned(matches=(("a", "b"),), seeds=(0,), defenses=("params",), attacks=("ties", "base-only")):
    return plan(
        PROTOCOL,
        [Match("tiny", victim, tuple(donors)) for victim, *donors in matches],
        seeds,
        [parse_defense(text) for text in defenses],
        [parse_attack(text) for text in attacks],
    )


def described(plays):
    return [(spell(p.tasks), p.seed, p.defense.spelling, p.attack and p.attack.spelling) for p in plays]


def test_one_match_in_full():
    plays = planned()
    assert sorted(described(plays), key=str) == sorted(
        [
            ("a", 0, "none", None),
            ("a", 0, "params", None),
            ("a+b", 0, "none", "base-only"),
            ("a+b", 0, "none", "identity > ties"),
            ("a+b", 0, "params", "identity > ties"),
        ],
        key=str,
    )


def test_releases_come_first_then_what_sets_the_references():
    order = [(play.kind, play.defense.spelling == "none") for play in planned((("a", "b"), ("b", "c")), (0, 1))]
    assert [key for i, key in enumerate(order) if key not in order[:i]] == [
        ("release", True),
        ("release", False),
        ("attack", True),
        ("attack", False),
    ]
    assert order == sorted(order, key=lambda key: (key[0] == "attack", not key[1]))


def test_matches_with_one_victim_share_its_releases():
    plays = planned((("a", "b"), ("a", "c"), ("a", "b", "c")), (0, 1))
    releases = [play for play in plays if play.kind == "release"]
    assert len(releases) == 2 * 2  # seeds x (none, params)
    needed = {play.needs.id for play in plays if play.needs is not None}
    assert needed == {play.id for play in releases}


@pytest.mark.parametrize("defenses", [(), ("none",), ("params", "none", "params", "params(scaling=diagonal)")])
def test_none_is_always_played_and_nothing_is_played_twice(defenses):
    plays = planned(defenses=defenses, attacks=("ties", "identity > ties", "base-only", "base-only"))
    assert len({play.id for play in plays}) == len(plays) == len(set(described(plays)))
    assert {play.defense.spelling for play in plays} == {"none"} | {"params" for d in defenses if "params" in d}


def test_baselines_are_played_once_per_match_and_seed_and_need_no_release():
    plays = planned((("a", "b"), ("b", "c")), (0, 1), ("params", "params(dropout=weights)"), ("base-only", "ties"))
    baselines = [play for play in plays if play.attack == parse_attack("base-only")]
    assert len(baselines) == 2 * 2
    assert {play.defense.spelling for play in baselines} == {"none"}
    assert all(play.needs is None for play in baselines)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"victim": "c"},
        {"donors": ("c",)},
        {"donors": ("b", "c")},
        {"defense": parse_defense("params(scaling=symmetric)")},
        {"attack": parse_attack("identity > ties(density=0.3)")},
        {"attack": None},
        {"protocol": replace(PROTOCOL, key="another")},
        {"protocol": replace(PROTOCOL, suite="another")},
        {"protocol": replace(PROTOCOL, examples=17)},
        {"protocol": replace(PROTOCOL, checkpoints=HASHES | {"base": "9"})},
        {"protocol": replace(PROTOCOL, checkpoints=HASHES | {"a": "9"})},
        {"protocol": replace(PROTOCOL, checkpoints=HASHES | {"b": "9"})},
    ],
)
def test_the_id_changes_with_what_decides_the_outcome(change):
    assert replace(PLAY, **change).id != PLAY.id


@pytest.mark.parametrize(
    "checkpoints",
    [dict(reversed(HASHES.items())), HASHES | {"c": "9"}, HASHES | {"z": "9"}],
    ids=["order", "a task of another match", "a new task"],
)
def test_the_id_changes_with_nothing_else(checkpoints):
    assert replace(PLAY, protocol=replace(PROTOCOL, checkpoints=checkpoints)).id == PLAY.id


def test_a_release_has_no_donors_in_its_id():
    ids = {replace(PLAY, donors=donors).needs.id for donors in (("b",), ("c",), ("b", "c"))}
    assert ids == {Play(protocol=PROTOCOL, victim="a", seed=0, defense=PARAMS).id}


def test_a_play_survives_the_way_to_another_process():
    again = pickle.loads(pickle.dumps(PLAY))  # our own
    assert again == PLAY
    assert (again.id, again.defense, again.attack) == (PLAY.id, PARAMS, TIES)
    assert hash(again.attack) == hash(TIES)


def test_a_play_reaches_its_process_before_its_players_are_known_there(registering, tiny):
    def same(victim, view):
        """Change nothing."""
        return dict(victim)

    registry.register("defense")("arrives-later")(same)
    suite = f"{type(tiny).__module__}:{type(tiny).__name__}"
    play = Play(protocol=replace(PROTOCOL, suite=suite), victim="a", seed=0, defense=parse_defense("arrives-later"))
    registry.forget(registry.find("arrives-later"))
    sent = pickle.loads(pickle.dumps(play.sent()))  # our own
    seen = sent.suite(Files())
    with pytest.raises(UnknownName, match="arrives-later"):
        sent.run(seen, Files(), lambda done, total: None)
    registry.register("defense")("arrives-later")(same)
    made = sent.run(seen, Files(), lambda done, total: None).tensors
    assert made.keys() == tiny.finetuned("a").keys()


def test_examples_are_drawn_by_seed_from_the_training_split(tiny):
    inputs, labels = draw_examples(tiny, "a", 8, seed=0)
    again, _ = draw_examples(tiny, "a", 8, seed=0)
    other, _ = draw_examples(tiny, "a", 8, seed=1)
    assert torch.equal(inputs, again)
    assert not torch.equal(inputs, other)
    train, train_labels = tiny.load("a", "train")
    rows = [(train == x).flatten(1).all(1).nonzero().item() for x in inputs]
    assert len(set(rows)) == 8
    assert torch.equal(train_labels[rows], labels)


def test_fewer_examples_are_a_prefix_and_no_more_are_drawn_than_there_are(tiny):
    few, many = (draw_examples(tiny, "a", count, seed=3)[0] for count in (5, 1000))
    assert torch.equal(few, many[:5])
    assert len(many) == len(tiny.load("a", "train")[0])


TASKS = ("a", "b", "c")


def test_parse_tasks():
    assert parse_tasks(" a + b+c", "tiny", TASKS) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a+z", "unknown task 'z'; suite tiny has: a, b, c"),
        ("", "unknown task ''"),
        ("a+", "unknown task ''"),
        ("a", "name two different tasks at least"),
        ("a+a", "name two different tasks at least"),
        ("a+b+b", "name two different tasks at least"),
    ],
)
def test_parse_tasks_says_what_is_wrong(text, problem):
    with pytest.raises(ArenaError, match=problem):
        parse_tasks(text, "tiny", TASKS)


@pytest.fixture(params=suites.names())
def suite(request):
    return suites.get(request.param)


@pytest.mark.parametrize("name", presets.NAMES)
def test_presets_name_real_tasks_and_players_in_canonical_spelling(suite, name):
    grid = preset(name, suite.name, tuple(suite.tasks))
    for match in grid.matches:
        assert parse_tasks(match.spelling, suite.name, tuple(suite.tasks)) == match.tasks
    assert len(set(grid.matches)) == len(grid.matches)
    attacks = [text for text in grid.attacks if text != presets.AUTO_NAME]
    for spelled, parse in ((grid.defenses, parse_defense), (attacks, parse_attack), (presets.AUTO, parse_attack)):
        assert len(set(spelled)) == len(spelled)
        assert [parse(text).spelling for text in spelled] == list(spelled)


def test_preset_sizes(suite):
    tasks = tuple(suite.tasks)
    n = len(tasks)
    quick, standard, catalogue, full, dropout = (preset(name, suite.name, tasks) for name in presets.NAMES)
    assert (len(quick.matches), quick.seeds) == (3, (0,))
    assert (dropout.matches, dropout.seeds) == (quick.matches, quick.seeds)
    assert len(catalogue.matches) == (1 if suite.name == "text" else 2)
    for nested in (quick, catalogue):  # so that their records are of the board's own matches
        assert nested.matches == standard.matches[: len(nested.matches)]
    assert sorted(match.victim for match in standard.matches) == sorted(tasks)
    assert standard.seeds == (0,)
    assert len(full.matches) == n * (n - 1) + n
    assert len(full.seeds) == 3
    assert {match.tasks for match in full.matches if len(match.donors) == n - 1} == {
        (victim, *(t for t in tasks if t != victim)) for victim in tasks
    }


@pytest.mark.parametrize("name", ["catalogue", "full"])
def test_the_wide_presets_have_every_player_and_every_baseline(name):
    grid = preset(name, "tiny", TASKS)
    attacks = {stage.name for text in grid.attacks for stage in parse_attack(text).stages}
    assert attacks == {player.name for player in registry.players("align", "merge", "recover", "attack")}
    assert set(presets.BASELINES) <= set(grid.attacks)
    assert {parse_attack(text).uses_victim for text in presets.BASELINES} == {False}


@pytest.mark.parametrize("name", ["standard", "full"])
def test_the_rankings_have_every_defense(name):
    played = {link.name for text in preset(name, "tiny", TASKS).defenses for link in parse_defense(text).defenses}
    assert played == {player.name for player in registry.players() if player.kind == "defense"}


def test_a_suite_meets_no_defense_that_its_encoder_cannot_carry(suite):
    architecture = suite.architecture
    links = {
        x.name for text in preset("standard", suite.name, [*suite.tasks]).defenses for x in parse_defense(text).defenses
    }
    assert ("residual" in links) == (architecture.residual is not None)
    assert ("gated-scale" in links) == bool(architecture.norms)


@pytest.mark.parametrize("name", presets.NAMES)
def test_every_preset_has_what_scores_need(name):
    """The unprotected victim for the ceiling, baselines of the lowest and the highest tier for the floors."""
    grid = preset(name, "tiny", TASKS)
    assert "none" in grid.defenses
    floors = {parse_attack(a).tier for a in grid.attacks if a in presets.BASELINES}
    assert {Tier.DATA_FREE, Tier.LABELLED} <= floors


def test_dropout_sweeps_both_readings_and_nothing_else(suite):
    grid = preset("dropout", suite.name, tuple(suite.tasks))
    unprotected, *released = (parse_defense(text).defenses[0] for text in grid.defenses)
    unpruned, *pruned = (link.config for link in released)
    assert unprotected.name == "none"
    assert unpruned.dropout == "none"
    assert [(config.dropout, config.rate) for config in pruned] == [
        (reading, rate) for reading in ("task-vector", "weights") for rate in (0.1, 0.2, 0.4, 0.6, 0.8)
    ]
    assert {config.scaling for config in (unpruned, *pruned)} == {"nonsymmetric"}
    assert {parse_attack(a).tier for a in grid.attacks if a not in presets.BASELINES} == set(Tier)


def test_auto_is_part_of_the_catalogue_and_goes_from_tier_to_tier():
    assert set(presets.AUTO) <= set(presets.CATALOGUE)
    ranks = [parse_attack(a).tier.rank for a in presets.AUTO]
    assert ranks == sorted(ranks)


def test_a_tier_leaves_out_what_it_does_not_allow():
    spelled = ("base-only", "identity > ties", "identity > fisher", "identity > ties(scale=chosen)", "finetune-base")
    within = {tier: [p.spelling for p in _within(tier, spelled)] for tier in Tier}
    assert within[Tier.DATA_FREE] == ["base-only", "identity > ties"]
    assert within[Tier.UNLABELLED] == ["base-only", "identity > ties", "identity > fisher"]
    assert within[Tier.LABELLED] == list(spelled)


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(
        UnknownName, match="unknown preset 'fast'; there are: quick, standard, catalogue, full, dropout"
    ):
        preset("fast", "tiny", TASKS)
