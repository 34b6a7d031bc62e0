"""Scores: worked by hand, chosen on validation, and only ever lowered by new evidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergearena.bench.games.protection.scoring import Points, merged_score, reference, worst_case
from mergearena.bench.games.statistics import Interval, bootstrap, group
from mergearena.bench.players.tier import Tier
from record_factory import make_record

POINTS = Points(floor=0.5, ceiling=0.9, donor_ceiling=0.8)
shares = st.floats(0, 1)
tables = st.lists(st.lists(shares, min_size=1, max_size=4), min_size=1, max_size=5)


def baseline(attack="base-only", **changes):
    return make_record(attack=attack, uses_victim=False, **changes)


@pytest.fixture(scope="module")
def toy():
    """Reference points with floor 0.5, ceiling 0.9 and donor ceiling 0.8 on both splits."""
    found = reference([baseline(test=(0.5, 0.3)), make_record(test=(0.9, 0.8))], Tier.DATA_FREE)
    assert found is not None
    assert found.points == POINTS
    return found


@pytest.mark.parametrize(
    ("victim", "donor", "recovered"),
    [
        (0.7, 0.80, 0.5),
        (0.6, 0.77, 0.25),
        (0.9, 0.80, 1.0),
        (1.0, 0.80, 1.0),  # clipped: better than the best unprotected merge
        (0.5, 0.80, 0.0),
        (0.1, 0.80, 0.0),  # clipped: worse than having no victim
        (0.7, 0.75, 0.0),  # the donors' skill is gone: 0.75 < 0.95 * 0.80
    ],
)
def test_recovered_by_hand(victim, donor, recovered):
    assert POINTS.recovered("v", {"v": victim, "d": donor}) == pytest.approx(recovered)


def test_qualifying_takes_the_mean_over_donors_and_includes_its_threshold():
    points = Points(floor=0.0, ceiling=1.0, donor_ceiling=1.0)
    assert points.qualifies("v", {"v": 0.0, "d": 0.95})
    assert points.qualifies("v", {"v": 0.0, "d": 1.0, "e": 0.90})
    assert not points.qualifies("v", {"v": 1.0, "d": 1.0, "e": 0.89})


def test_handing_back_the_victim_does_not_qualify(toy):
    stolen = worst_case([make_record(defense="params", test=(1.0, 0.3))], toy)
    assert (stolen.recovered, stolen.attack) == (0.0, None)


def test_merged_accuracy_is_the_mean_over_tasks():
    assert merged_score({"v": 0.5, "d": 0.8, "e": 0.2}) == pytest.approx(0.5)


def test_without_a_gap_nothing_is_recovered():
    assert Points(0.9, 0.9, 0.5).recovered("v", {"v": 1.0, "d": 1.0}) == 0
    assert Points(0.9, 0.8, 0.5).recovered("v", {"v": 1.0, "d": 1.0}) == 0


def test_the_floor_is_chosen_on_validation_and_read_on_test():
    records = [
        baseline("base-only", validation=(0.6, 0.1), test=(0.4, 0.1)),
        baseline("donors-only", validation=(0.5, 0.9), test=(0.7, 0.9)),
        make_record(test=(0.9, 0.8)),
    ]
    found = reference(records, Tier.DATA_FREE)
    assert (found.floor_by, found.points.floor) == ("base-only", 0.4)


def test_the_ceiling_is_the_merge_best_over_all_tasks_on_validation():
    records = [
        baseline(test=(0.5, 0.3)),
        make_record(attack="both", validation=(0.8, 0.8), test=(0.7, 0.6)),
        make_record(attack="lucky-on-test", validation=(0.7, 0.7), test=(1.0, 1.0)),
        make_record(attack="victim-only", validation=(1.0, 0.3), test=(1.0, 0.3)),
        make_record(attack="against-a-defense", defense="params", test=(1.0, 1.0)),
    ]
    found = reference(records, Tier.DATA_FREE)
    assert found.ceiling_by == "both"
    assert found.points == Points(floor=0.5, ceiling=0.7, donor_ceiling=0.6)


def test_a_tier_has_the_references_of_the_tiers_below():
    records = [
        baseline(test=(0.5, 0.3)),
        baseline("finetune-base", tier="labelled", test=(0.8, 0.3)),
        make_record(test=(0.9, 0.8)),
        make_record(attack="entropy", tier="unlabelled", test=(0.95, 0.85)),
    ]
    found = {tier: reference(records, tier).points for tier in Tier}
    assert {tier: p.floor for tier, p in found.items()} == {"data-free": 0.5, "unlabelled": 0.5, "labelled": 0.8}
    assert {tier: p.ceiling for tier, p in found.items()} == {"data-free": 0.9, "unlabelled": 0.95, "labelled": 0.95}


@pytest.mark.parametrize("records", [[], [baseline()], [make_record()], [baseline(status="failed"), make_record()]])
def test_no_reference_without_a_finished_baseline_and_merge(records):
    assert reference(records, Tier.DATA_FREE) is None


@pytest.mark.parametrize(("ceiling", "is_match"), [(0.54, False), (0.56, True), (0.3, False)])
def test_under_five_points_of_gap_there_is_no_match(ceiling, is_match):
    found = reference([baseline(test=(0.5, 0.3)), make_record(test=(ceiling, 0.8))], Tier.DATA_FREE)
    assert found.is_match is is_match


def test_the_worst_case_is_chosen_on_validation_and_read_on_test(toy):
    records = [
        make_record(attack="chosen", validation=(0.8, 0.8), test=(0.6, 0.8)),
        make_record(attack="lucky-on-test", validation=(0.7, 0.8), test=(0.9, 0.8)),
        make_record(attack="disqualified", validation=(0.9, 0.1), test=(0.9, 0.1)),
    ]
    worst = worst_case(records, toy)
    assert worst.attack == "chosen"
    assert worst.recovered == pytest.approx(0.25)


def test_readings_above_the_ceiling_are_told_apart_by_validation(toy):
    """Both recover everything on validation; the better of them is chosen, not the first by name."""
    records = [
        make_record(attack="a", validation=(0.92, 0.8), test=(0.7, 0.8)),
        make_record(attack="b", validation=(0.95, 0.8), test=(0.8, 0.8)),
    ]
    assert worst_case(records, toy).attack == "b"


def test_failed_plays_and_baselines_are_no_attack(toy):
    records = [make_record(status="timeout"), baseline(test=(0.9, 0.9))]
    assert worst_case(records, toy).attack is None
    assert worst_case([], toy).recovered == 0


def test_a_qualifying_attack_that_recovers_nothing_is_named(toy):
    worst = worst_case([make_record(attack="weak", test=(0.5, 0.8))], toy)
    assert (worst.recovered, worst.attack) == (0.0, "weak")


def test_evidence_of_a_later_round_cannot_replace_a_stronger_reading(toy):
    first = make_record(attack="first", validation=(0.7, 0.8), test=(0.8, 0.8))
    better_on_validation = {"attack": "later", "validation": (0.8, 0.8), "test": (0.6, 0.8)}

    together = worst_case([first, make_record(round=0, **better_on_validation)], toy)
    afterwards = worst_case([first, make_record(round=1, **better_on_validation)], toy)

    assert together.recovered == pytest.approx(0.25)  # the choice was made once, on validation
    assert (afterwards.attack, afterwards.recovered) == ("first", pytest.approx(0.75))


evidence = st.lists(
    st.tuples(st.integers(0, 3), st.tuples(shares, shares), st.tuples(shares, shares)), min_size=1, max_size=6
)


def played(evidence):
    return [
        make_record(attack=f"attack-{i}", round=number, validation=validation, test=test)
        for i, (number, validation, test) in enumerate(evidence)
    ]


@given(evidence=evidence, until=st.integers(0, 3))
def test_later_rounds_never_lower_the_worst_case(toy, evidence, until):
    records = played(evidence)
    before = worst_case([r for r in records if r.round <= until], toy)
    after = worst_case(records, toy)
    assert after.recovered >= before.recovered
    assert before.attack is None or after.attack is not None


@given(data=st.data(), evidence=evidence)
def test_the_order_of_records_does_not_matter(toy, data, evidence):
    records = played(evidence)
    shuffled = data.draw(st.permutations(records))
    assert worst_case(shuffled, toy) == worst_case(records, toy)
    with_baselines = [*records, baseline(test=(0.5, 0.3)), baseline("donors-only", test=(0.5, 0.9))]
    assert reference(data.draw(st.permutations(with_baselines)), Tier.LABELLED) == reference(
        with_baselines, Tier.LABELLED
    )


def test_bootstrap_of_constants_has_no_width():
    interval = bootstrap([[0.3, 0.3], [0.3], [0.3, 0.3, 0.3]])
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)


def test_bootstrap_weighs_matches_equally_however_many_seeds_they_have():
    assert bootstrap([[0.0], [1.0, 1.0, 1.0]]).mean == pytest.approx(0.5)


@given(tables)
def test_bootstrap_lies_within_the_values_and_around_the_mean(table):
    interval = bootstrap(table, resamples=50)
    values = [value for row in table for value in row]
    assert interval.low <= interval.mean <= interval.high
    assert min(values) - 1e-12 <= interval.low
    assert interval.high <= max(values) + 1e-12


def test_bootstrap_is_deterministic():
    table = [[0.1, 0.4], [0.9], [0.5, 0.6]]
    assert bootstrap(table) == bootstrap(table)


@pytest.mark.parametrize("layout", ["over matches", "over seeds"])
def test_more_spread_is_a_wider_interval(layout):
    widths = []
    for spread in (0.0, 0.1, 0.4):
        values = [0.5 - spread, 0.5 + spread] * 4
        interval = bootstrap([[v] for v in values] if layout == "over matches" else [values])
        assert interval.mean == pytest.approx(0.5)
        widths.append(interval.high - interval.low)
    assert widths[0] == pytest.approx(0)
    assert widths[1] > 0.01
    assert widths[1] == pytest.approx(widths[2] / 4)  # the interval scales with the values


@pytest.mark.parametrize(("low", "overlaps"), [(0.5, True), (0.6, True), (0.61, False)])
def test_intervals_that_share_a_point_overlap(low, overlaps):
    one, other = Interval(0.5, 0.4, 0.6), Interval(0.8, low, 0.9)
    assert one.overlaps(other) is other.overlaps(one) is overlaps


@given(st.lists(st.integers(0, 20)))
def test_groups_keep_every_item_in_order(items):
    groups = group(items, lambda i: i % 3)
    assert list(groups) == list(dict.fromkeys(i % 3 for i in items))
    assert all(members == [i for i in items if i % 3 == key] for key, members in groups.items())
