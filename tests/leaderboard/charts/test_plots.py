"""The page's plots: where points and their letters stand, who is on the front, and what belongs to one sweep."""

import json
import re
from itertools import combinations

import altair as alt
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.charts.axes import cost_axis, fidelity_axis, percent_axis, share_axis
from mergearena.leaderboard.charts.labels import TOGETHER, key, place
from mergearena.leaderboard.charts.palette import COLOURS, STEPS, contrast, heat_class, light, readable, rules
from mergearena.leaderboard.charts.scatter import HEIGHT, WIDTH, Point, panel, specification, to_png, to_svg
from mergearena.leaderboard.protection import plots
from mergearena.leaderboard.protection.parts import SuiteBoard
from record_factory import NAIVE, make_record

CHEAP, STRONG, WASTE, RARE = "a > ties", "b > ties", "c > ties", "d > ties"
COSTS = {NAIVE: 0, CHEAP: 10, STRONG: 200, WASTE: 300, RARE: 400}
RECOVERED = {NAIVE: 0.1, CHEAP: 0.5, STRONG: 0.9, WASTE: 0.6, RARE: 1.0}


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
    small = [("y", 100, 50), ("z", 102, 50), ("aa", 104, 51)]
    assert [label.text for label in place(small, 300, 200)] == ["y–aa"]


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


def dots(chart):
    """x, y, fill and outline of the points, from the top left of the panel."""
    marks = re.findall(r"<g[^>]*mark-symbol role-mark.*?</g>", to_svg(chart))
    found = re.findall(r'translate\(([\d.]+),([\d.]+)\)"[^>]*?fill="([^"]+)" stroke="([^"]+)"', marks[-1])
    return [(float(x), float(y), fill, stroke) for x, y, fill, stroke in found]


POINTS = [
    Point("A", 0.0, 0.1, "ranked", 0.0, 0.2),
    Point("B", 4e-6, 0.3, "unranked", 0.2, 0.9),
    Point("C", 0.7, 0.7, "partly"),
    Point("D", 7.0, 0.9, "ranked", 0.8, 1.0),
]


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (cost_axis("cost", [0.0, 4e-6, 0.2, 7.0]), [0.0, 4e-6, 0.2, 7.0]),
        (fidelity_axis([1.0, 0.99, 0.7, 1.01], 0.98), [1.0, 0.99, 0.7, 1.01]),
        (percent_axis("score, %", [0.41, 0.89]), [0.41, 0.5, 0.6, 0.89]),
    ],
    ids=["cost", "fidelity", "percent"],
)
def test_points_stand_where_the_labels_think_they_stand(axis, values):
    points = [Point(p.letter, x, p.y, p.kind) for p, x in zip(POINTS, values, strict=True)]
    drawn = dots(panel("title", points, axis, share_axis("share")))
    expected = [at for p in points for at in (WIDTH * axis.at(p.x), HEIGHT * (1 - p.y))]
    assert [at for x, y, *_ in drawn for at in (x, y)] == pytest.approx(expected)
    assert all(0 <= x <= WIDTH for x, *_ in drawn)
    assert axis.at(axis.end) == pytest.approx(1)


def test_points_look_like_their_kind():
    looks = [look for _, _, *look in dots(panel("title", POINTS, cost_axis("cost", [7.0]), share_axis("share")))]
    ranked, unranked, paper = "var(--ranked)", "var(--unranked)", "var(--paper)"
    assert looks == [[ranked, ranked], [unranked, unranked], [paper, ranked], [ranked, ranked]]


def lines(chart):
    found = re.findall(r"<g[^>]*mark-line role-mark.*?</g>", to_svg(chart))
    return [path for marks in found for path in re.findall(r' d="([^"]*L[^"]*)"', marks)]


def test_lines_join_the_points_of_a_sweep_and_nothing_else():
    points = [Point("A", 0.1, 0.2, "ranked", family="a"), Point("B", 0.2, 0.2, "ranked", family="b")]
    points += [Point("C", 0.3, 0.6, "ranked", family="a"), Point("D", 0.4, 0.6, "ranked")]
    (path,) = lines(panel("title", points, share_axis("x"), share_axis("y")))
    assert path.count("L") == 1
    assert lines(panel("title", points[1:2], share_axis("x"), share_axis("y"))) == []


def test_specifications_are_valid():
    """They are drawn unchecked, which is five times as fast."""
    chart = panel(
        "title", POINTS, cost_axis("cost", [7.0]), percent_axis("y", [0.5], [0.4]), front=[(0.1, 0.2), (1, 0.2)]
    )
    alt.LayerChart.from_json(specification(chart), validate=True)
    with pytest.raises(jsonschema.ValidationError):
        alt.LayerChart.from_json(specification(chart).replace('"point"', '"pointless"'), validate=True)


def test_a_picture_has_the_colours_of_light_paper_and_no_others():
    chart = panel("title", POINTS, cost_axis("cost", [7.0]), share_axis("y"))
    named = set(re.findall(r"var\(--([\w-]+)\)", specification(chart)))
    assert {"ranked", "unranked", "paper", "ink"} <= named <= COLOURS.keys()
    assert "var(" not in light(specification(chart))
    assert COLOURS["ranked"][0] in light(specification(chart))
    picture = to_png(specification(chart))
    assert picture.startswith(b"\x89PNG")
    assert picture == to_png(specification(chart))


def world(rare=False):
    """One match, two defenses and none; attacks at their costs; the rare one meets the second defense only."""
    found = [
        make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3)),
        make_record(attack=None, test=(0.95,)),
    ]
    for defense in ("none", "params", "lock"):
        found.append(make_record(attack=None, defense=defense, test=(0.9 if defense != "none" else 0.95,)))
        for attack, share in RECOVERED.items():
            if (rare or attack != RARE) and (attack != RARE or defense != "params"):
                share = 1.0 if defense == "none" else share
                test = (0.5 + 0.4 * share, 0.9)
                cost = {"flops": COSTS[attack]}
                tier = Tier.LABELLED if attack == WASTE else Tier.DATA_FREE
                found.append(make_record(attack=attack, defense=defense, test=test, cost=cost, tier=tier))
    return build({record.id: record for record in found}.values()).of(SuiteBoard)[0]


def test_the_front_is_whoever_nobody_beats_for_less():
    board = world()
    assert [row.attack for _, row in plots.front(board, Tier.DATA_FREE)] == [NAIVE, CHEAP, STRONG]
    letters = {row.attack: key(place).lower() for place, row in enumerate(board.attacks)}
    assert all(letters[row.attack] == shown for shown, row in plots.front(board, Tier.DATA_FREE))
    assert {row.attack for _, row in plots.attacks_in(board, Tier.DATA_FREE)} == {NAIVE, CHEAP, STRONG}
    assert {row.attack for _, row in plots.attacks_in(board, Tier.LABELLED)} == {NAIVE, CHEAP, STRONG, WASTE}


def test_who_met_but_some_defenses_is_drawn_hollow_and_not_on_the_front():
    board = world(rare=True)
    assert {row.attack: row.defenses_met for row in board.attacks if row.uses_victim} == {
        NAIVE: 2,
        CHEAP: 2,
        STRONG: 2,
        WASTE: 2,
        RARE: 1,
    }
    assert board.attacks[-1].attack == RARE or not board.attacks[-1].uses_victim
    assert [row.attack for _, row in plots.front(board, Tier.DATA_FREE)] == [NAIVE, CHEAP, STRONG]
    hollow = [at for at in dots(plots.recovered_against_cost(board, Tier.DATA_FREE)) if at[2] == "var(--paper)"]
    assert [y for _, y, *_ in hollow] == [pytest.approx(0, abs=1e-9)]


def test_what_has_no_number_is_not_drawn():
    board = world()
    assert len(dots(plots.resistance_against_cost(board, Tier.DATA_FREE))) == 3
    without = [row.model_copy(update={"relative_protect_cost": None}) for row in board.defenses[:1]]
    board = board.model_copy(update={"defenses": (*without, *board.defenses[1:])})
    assert len(dots(plots.resistance_against_cost(board, Tier.DATA_FREE))) == 2
    assert dots(plots.resistance_against_cost(board.model_copy(update={"defenses": ()}), Tier.DATA_FREE)) == []


def heights(chart):
    """Data values of y, and of the horizontal rules, of a plot of scores."""
    spec = json.loads(specification(chart))
    marks = {layer["mark"]["type"]: layer["data"]["values"] for layer in spec["layer"]}
    rules = [value["y"] for layer in spec["layer"] for value in layer["data"]["values"] if set(value) == {"y"}]
    return [(value["x"], value["y"]) for value in marks["point"]], rules


def test_accuracies_are_those_of_the_strongest_merge_between_floor_and_ceiling():
    points, marked = heights(plots.scores(world(), Tier.DATA_FREE))
    assert marked == pytest.approx([0.5, 0.9])
    assert sorted(points) == [(pytest.approx(x), pytest.approx(y)) for x, y in ((0.9, 0.86), (0.9, 0.86), (0.95, 0.9))]


def test_where_no_attack_qualifies_the_attacker_is_left_with_the_floor():
    board = world()
    rows = []
    for row in board.defenses:
        missed = [w.model_copy(update={"attack": None, "score": None, "recovered": 0.0}) for w in row.worst]
        rows.append(row.model_copy(update={"worst": tuple(missed)}))
    points, _ = heights(plots.scores(board.model_copy(update={"defenses": tuple(rows)}), Tier.DATA_FREE))
    assert [y for _, y in points] == pytest.approx([0.5] * 3)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_black_or_white_can_be_read_on_any_colour(red, green, blue):
    paper = f"#{red:02x}{green:02x}{blue:02x}"
    assert contrast(readable(paper), paper) >= 4.5


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "papers"),
    [
        ("ink", ("paper", "card")),
        ("muted", ("paper", "card")),
        ("link", ("paper", "card")),
        ("unranked", ("paper",)),
        ("flag", ("flag-paper",)),
        ("paper", ("ranked", "unranked")),
    ],
)
def test_texts_can_be_read(ink, papers, scheme):
    for paper in papers:
        assert contrast(COLOURS[ink][scheme], COLOURS[paper][scheme]) >= 4.5


def test_every_share_has_a_square_of_its_colour():
    found = "\n".join(rules())
    classes = [heat_class(share / 1000) for share in range(1001)]
    assert len(dict.fromkeys(classes)) == STEPS + 1
    assert all(f".{name} {{" in found for name in classes)
