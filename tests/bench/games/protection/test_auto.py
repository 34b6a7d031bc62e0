"""The standard ensemble: what it reaches and costs, worked by hand on a small catalogue."""

import pytest

from mergearena.bench.games.protection import auto
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.cost import Cost
from record_factory import make_record

CHEAP, STRONG, USELESS, TUNED = "identity > average", "weight-matching > ties", "identity > dare", "ties > finetune"
SECONDS = {CHEAP: 1.0, STRONG: 3.0, USELESS: 5.0, TUNED: 10.0}
REACHED = {
    # defense -> attack -> victim score; the floor is 0.5 and the ceiling 0.9 (labelled: 0.6 and 0.95)
    "none": {CHEAP: 0.9, STRONG: 0.9, USELESS: 0.6, TUNED: 0.95},
    "weak": {CHEAP: 0.9, STRONG: 0.9, USELESS: 0.6, TUNED: 0.95},
    "tough": {CHEAP: 0.5, STRONG: 0.7, USELESS: 0.6, TUNED: 0.8},
}


@pytest.fixture
def catalogue():
    records = [
        make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3), cost=Cost(wall_seconds=1)),
        make_record(
            attack="finetune-base", uses_victim=False, tier=Tier.LABELLED, test=(0.6, 0.6), cost=Cost(wall_seconds=1)
        ),
    ]
    for defense, reached in REACHED.items():
        records.append(make_record(attack=None, defense=defense, cost=Cost(wall_seconds=1)))
        for attack, score in reached.items():
            tier = Tier.LABELLED if attack == TUNED else Tier.DATA_FREE
            cost = Cost(wall_seconds=SECONDS[attack])
            records.append(make_record(defense=defense, attack=attack, test=(score, 0.8), tier=tier, cost=cost))
    return records


def case(defense, tier):
    return auto.Case("toy", "v+d", 0, defense, tier)


def test_the_choice_is_what_the_catalogue_needs_and_no_more(catalogue):
    """STRONG breaks both defenses without data, so CHEAP is not needed; only TUNED reaches what labels give."""
    assert auto.choose(catalogue) == [STRONG, TUNED]


def test_the_cheaper_of_two_that_reach_the_same_is_chosen(catalogue):
    only_weak = [r for r in catalogue if r.defense != "tough"]
    assert auto.choose(only_weak) == [CHEAP, TUNED]


def test_a_chosen_ensemble_falls_short_nowhere(catalogue):
    found = auto.compare(catalogue, auto.choose(catalogue))
    assert max(found.shortfalls.values()) == 0
    assert set(found.catalogue) == {case(d, t) for d in ("weak", "tough") for t in Tier}
    assert found.catalogue[case("tough", Tier.DATA_FREE)] == pytest.approx(0.5)
    assert found.catalogue[case("tough", Tier.LABELLED)] == pytest.approx(0.2 / 0.35)


def test_shortfalls_name_the_case_and_come_the_largest_first(catalogue):
    found = auto.compare(catalogue, [CHEAP, TUNED])
    first, lost = next(iter(found.shortfalls.items()))
    assert (first, lost) == (case("tough", Tier.DATA_FREE), pytest.approx(0.5))


def test_seconds_count_what_the_cascade_would_have_played(catalogue):
    """3 releases and 2 baselines of 1 s each; STRONG (3 s) and TUNED (10 s) on every defense, since only TUNED breaks
    the labelled tier; the catalogue plays 19 s on each of three.
    """
    found = auto.compare(catalogue, [STRONG, TUNED])
    assert found.seconds == (5 + 3 * 19, 5 + 3 * 13)
    assert found.plays == (5 + 12, 5 + 6)


def test_a_broken_match_is_attacked_no_further(catalogue):
    """TUNED first: it recovers everything of ``weak`` with labels, but says nothing about attackers without."""
    kept = [(r.defense, r.attack) for r in auto.cascaded([r for r in catalogue if r.attack], [STRONG, TUNED, CHEAP])]
    assert ("weak", CHEAP) not in kept
    assert ("tough", CHEAP) in kept
    assert ("none", CHEAP) in kept


def test_reference_points_of_its_own_can_flatter_an_ensemble(catalogue):
    """Without TUNED nothing shows how much labels could give: by its own labelled ceiling STRONG reaches more."""
    found = auto.compare(catalogue, [STRONG])
    labelled = case("tough", Tier.LABELLED)
    assert found.ensemble[labelled] == pytest.approx(0.1 / 0.35)
    assert found.own[labelled] == pytest.approx(0.1 / 0.3)


def test_what_the_ensemble_never_met_it_does_not_reach(catalogue):
    """Against ``weak`` only CHEAP was played: the ensemble reaches nothing there, and the check says so."""
    fewer = [r for r in catalogue if r.defense != "weak" or r.attack in (None, CHEAP)]
    assert auto.compare(fewer, [STRONG, TUNED]).shortfalls[case("weak", Tier.DATA_FREE)] == pytest.approx(1)
    assert auto.compare(fewer, [CHEAP, STRONG, TUNED]).shortfalls[case("weak", Tier.DATA_FREE)] == 0
