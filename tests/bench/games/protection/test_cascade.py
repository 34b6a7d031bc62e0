"""A cascade: its plan, and when it stops. Reference points are worked by hand."""

import pytest

from mergearena.bench.games.protection import Match, Play, plan, settled
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.protocol import Protocol
from record_factory import make_record

PROTOCOL = Protocol(suite="tiny", key="key", examples=16, checkpoints={"base": "0", "v": "1", "d": "2"})
FIRST, SECOND = "weight-matching > ties", "weight-matching > average"
FREE, LABELLED = ("params", Tier.DATA_FREE), ("params", Tier.LABELLED)
TUNED = "weight-matching > average > finetune"


def step(attack):
    chain, pipeline = parse_defense("params"), parse_attack(attack)
    return Play(protocol=PROTOCOL, victim="v", donors=("d",), seed=0, defense=chain, attack=pipeline, after=())


def known(*attacks):
    """Floor 0.5 and ceiling 0.9 in the data-free tier, floor 0.6 and ceiling 0.95 in the labelled one; then attacks."""
    labelled = {"tier": Tier.LABELLED}
    return [
        make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3)),
        make_record(attack="finetune-base", uses_victim=False, test=(0.6, 0.6), **labelled),
        make_record(attack=FIRST, test=(0.9, 0.8)),
        make_record(attack=TUNED, test=(0.95, 0.85), **labelled),
        *attacks,
    ]


def record(attack, score, **changes):
    return make_record(defense="params", attack=attack, test=score, **changes)


def test_the_steps_meet_none_freely_and_a_defense_one_after_the_other():
    plays = plan(
        PROTOCOL,
        [Match("tiny", "v", ("d",))],
        [0],
        [parse_defense("params")],
        [parse_attack(a) for a in ("base-only", "ties")],
        [parse_attack(a) for a in (FIRST, SECOND)],
    )
    of = {(play.defense.spelling, play.attack and play.attack.spelling): play for play in plays}
    references = {of["none", a].id for a in ("base-only", "identity > ties", FIRST, SECOND)}
    plain = {of["params", "identity > ties"].id}
    assert all(play.after is None for key, play in of.items() if key[0] == "none" or key[1] not in (FIRST, SECOND))
    assert set(of["params", FIRST].after) == references | plain
    assert set(of["params", SECOND].after) == references | plain | {of["params", FIRST].id}


def test_what_a_step_waits_for_does_not_change_its_id():
    assert step(FIRST).id == Play(**{**vars(step(FIRST)), "after": None}).id


@pytest.mark.parametrize(("score", "enough"), [(0.945, False), (0.949, True), (0.95, True)])
def test_a_step_is_not_needed_once_every_tier_it_counts_in_is_broken(score, enough):
    """0.949 recovers 0.997 of what there is in the labelled tier and all there is in the data-free one."""
    broken = known(record(SECOND, (score, 0.85)))
    assert settled(*FREE, broken) is enough
    assert settled(*LABELLED, broken) is enough


def test_breaking_the_lower_tier_does_not_settle_the_higher():
    broken = known(record(SECOND, (0.9, 0.85)))
    assert not settled(*LABELLED, broken)
    # A data-free step counts in the labelled tier too.
    assert not settled(*FREE, broken)


def test_breaking_the_higher_tier_does_not_settle_the_lower():
    broken = known(record(TUNED, (0.95, 0.85), tier=Tier.LABELLED))
    assert settled(*LABELLED, broken)
    assert not settled(*FREE, broken)


def test_an_attack_that_does_not_qualify_settles_nothing():
    assert not settled(*LABELLED, known(record(SECOND, (1.0, 0.3))))


def test_attacks_on_other_defenses_settle_nothing():
    assert not settled(*LABELLED, known(make_record(defense="other", attack=SECOND, test=(1.0, 1.0))))


def test_without_references_nothing_is_settled():
    assert not settled(*FREE, [record(SECOND, (1.0, 1.0))])


def test_where_there_is_nothing_to_steal_no_step_is_needed():
    records = [
        make_record(attack="base-only", uses_victim=False, test=(0.88, 0.3)),
        make_record(attack=FIRST, test=(0.9, 0.8)),
    ]
    assert settled(*FREE, records)
