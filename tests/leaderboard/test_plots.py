"""The page's plots: where points and their letters stand, and what belongs to one sweep."""

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.game import Tier
from leaderboard import plots
from leaderboard.board import DefensePart, IntervalPart
from leaderboard.labels import TOGETHER, key, place


def row(defense="params", mean=0.5, cost=0.0, fidelity=1.0, rank=1):
    part = IntervalPart(mean=mean, low=mean / 2, high=(1 + mean) / 2, matches=2)
    return DefensePart(
        rank=rank,
        unranked_because=None,
        defense=defense,
        resistance={Tier.DATA_FREE: part},
        resistance_of_weights={},
        protected_accuracy=None,
        finetuned_accuracy=None,
        fidelity=fidelity,
        logit_difference=None,
        claims_function=None,
        protect_cost=None,
        relative_protect_cost=cost,
        releases=(),
        worst=(),
        history=(),
        flags=(),
    )


@pytest.mark.parametrize(
    ("spelling", "shared"),
    [
        ("lock", "lock"),
        ("lock(rate=0.3)", "lock"),
        ("lock(mode=slow, rate=1e-3)", "lock(mode=slow)"),
        ("lock(rate=-0.3, mode=slow)", "lock(mode=slow)"),
        ("lock(rate=0.3, steps=4)+params(scaling=symmetric)", "lock+params(scaling=symmetric)"),
    ],
)
def test_a_sweep_is_a_spelling_without_its_numbers(spelling, shared):
    assert plots.family(spelling) == shared


def test_keys_count_in_letters():
    assert [key(i) for i in (0, 25, 26, 27, 51, 52, 701, 702)] == ["A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]


def test_points_that_lie_together_share_a_label():
    spots = [("A", 100, 50), ("B", 102, 50), ("C", 104, 51), ("E", 101, 53), ("F", 200, 50)]
    assert [label.text for label in place(spots, 300, 200)] == ["A–C,E", "F"]


coordinates = st.tuples(st.floats(0, 300), st.floats(0, 200))


@given(st.lists(coordinates, min_size=1, max_size=12))
def test_every_point_is_named_once_and_on_the_picture(points):
    spots = [(key(i), x, y) for i, (x, y) in enumerate(points)]
    labels = place(spots, 300, 200)
    named = []
    for label in labels:
        assert 0 <= label.x <= 330
        assert -10 <= label.y <= 200
        for part in label.text.split(","):
            first, _, last = part.partition("–")
            named += [chr(c) for c in range(ord(first), ord(last or first) + 1)]
    assert sorted(named) == [letters for letters, _, _ in spots]
    apart = all(abs(a[1] - b[1]) + abs(a[2] - b[2]) >= TOGETHER for a, b in combinations(spots, 2))
    assert not apart or len(labels) == len(spots)


def test_a_lonely_points_label_stands_right_beside_it():
    (label,) = place([("A", 100, 50)], 300, 200)
    assert label.y == 50
    assert 100 < label.x < 120


def points(svg):
    """x, y and colour of the points, from the top left of the panel."""
    marks = re.search(r"mark-symbol role-mark.*?</g>", svg)
    found = re.findall(r'translate\(([\d.]+),([\d.]+)\)"[^>]*?fill="([^"]+)"', marks[0])
    return [(float(x), float(y), colour) for x, y, colour in found]


@pytest.mark.parametrize("make", [plots.cost_axis, plots.fidelity_axis])
def test_points_stand_where_the_labels_think_they_stand(make):
    rows = [
        row("a", 0.1, 0.0, 1.0),
        row("b", 0.3, 4e-6, 0.99, rank=None),
        row("c", 0.7, 0.2, 0.7),
        row("d", 0.9, 7.0, 1.01),
    ]
    axis = make(rows)
    keys = {r.defense: key(i) for i, r in enumerate(rows)}
    drawn = points(plots.panel(rows, keys, Tier.DATA_FREE, axis))
    expected = [
        (plots.WIDTH * axis.at(axis.value(r)), plots.HEIGHT * (1 - r.resistance["data-free"].mean)) for r in rows
    ]
    assert [xy for x, y, _ in drawn for xy in (x, y)] == pytest.approx([xy for at in expected for xy in at])
    assert [colour for *_, colour in drawn] == ["var(--ranked)", "var(--unranked)", "var(--ranked)", "var(--ranked)"]
    assert all(0 <= x <= plots.WIDTH for x, *_ in drawn)


def test_what_has_no_number_is_not_drawn():
    rows = [row("a"), row("b", cost=None), row("c").model_copy(update={"resistance": {}})]
    keys = {r.defense: key(i) for i, r in enumerate(rows)}
    assert len(points(plots.panel(rows, keys, Tier.DATA_FREE, plots.cost_axis(rows)))) == 1


def lines(svg):
    return [d for d in re.findall(r"mark-line role-mark.*?</g>", svg) for d in re.findall(r' d="([^"]*L[^"]*)"', d)]


def test_lines_join_the_points_of_a_sweep_and_nothing_else():
    rows = [row("a(rate=0.1)", 0.2, fidelity=1.0), row("b", 0.5), row("a(rate=0.2)", 0.6, fidelity=0.9)]
    keys = {r.defense: key(i) for i, r in enumerate(rows)}
    (path,) = lines(plots.panel(rows, keys, Tier.DATA_FREE, plots.fidelity_axis(rows)))
    assert path.count("L") == 1
    assert lines(plots.panel(rows, keys, Tier.DATA_FREE, plots.cost_axis(rows))) == []
