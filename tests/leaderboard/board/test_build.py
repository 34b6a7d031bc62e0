"""The board is a pure function of records, in which nothing unfinished looks like a win."""

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergearena.bench.errors import ArenaError
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.cost import Cost
from mergearena.leaderboard.board.build import SCHEMA, build, schema_json, to_json
from mergearena.leaderboard.protection.parts import SuiteBoard
from record_factory import ALIGNED, NAIVE, make_record

TUNED = "identity > task-arithmetic > finetune"
MATCHES = (("v", "d"), ("d", "v"))
SEEDS = (0, 1)
FLOOR, CEILING, FINETUNED = 0.5, 0.9, 0.95


def plays(defense, recovered=0.0, protected=FINETUNED, flops=10, attack=NAIVE, released=True, **changes):
    """A defense's releases and one attack on it, on every match and seed; ``recovered`` may differ between seeds."""
    found = []
    for victim, donor in MATCHES:
        for seed in SEEDS:
            match = {"victim": victim, "donors": (donor,), "seed": seed, "defense": defense}
            if released:
                release = match | {"attack": None, "test": (protected,), "cost": Cost(flops=flops)}
                found.append(make_record(**release))
            share = recovered[seed] if isinstance(recovered, tuple) else recovered
            test = (FLOOR + share * (CEILING - FLOOR), 0.9)
            found.append(make_record(**match | {"attack": attack, "test": test} | changes))
    return found


def more(defense, attack, recovered=0.0, **changes):
    """One more attack on a defense whose releases are there already."""
    return plays(defense, recovered, attack=attack, released=False, **changes)


REFERENCES = [
    *plays("none", recovered=1.0),
    *more("none", "base-only", recovered=0.0, uses_victim=False),
]
WORLD = [
    *REFERENCES,
    *more("none", ALIGNED, 1.0),
    *more("none", TUNED, 1.0, tier="labelled"),
    *plays("params", (0.1, 0.3)),
    *more("params", ALIGNED, status="timeout", reason="over 600 s"),
    *more("params", TUNED, 0.4, tier="labelled", task_vector_ratio=0.0),
    *plays("params(scaling=symmetric)", 0.8, protected=0.5),
]


def test_records_of_different_numbers_of_examples_are_not_put_on_one_board():
    """Whoever may read more examples cannot be compared with who may not."""
    of_16 = [record.model_copy(update={"examples": 16}) for record in more("params", TUNED, 0.9, tier="labelled")]
    with pytest.raises(ArenaError, match=r"^toy: .* of k = 16 and of k = 256 .*--records"):
        build([*WORLD, *of_16])
    assert build([record.model_copy(update={"suite": "other"}) for record in of_16] + WORLD)


def test_the_protocol_counts_records_of_earlier_code():
    earlier = [record.model_copy(update={"first_version": 2}) for record in WORLD[:3]]
    (suite,) = build([*earlier, *WORLD[3:]]).of(SuiteBoard)
    assert (suite.protocol.earlier_code, suite.protocol.records) == (3, len(WORLD))


def rows(records):
    """Defense -> its row, in the board's order."""
    (suite,) = build(records).of(SuiteBoard)
    return {row.defense: row for row in suite.defenses}


def leaves(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


@settings(max_examples=5, deadline=None)
@given(st.permutations(WORLD))
def test_shuffled_records_give_the_same_bytes(shuffled):
    assert to_json(build(shuffled)) == to_json(build(WORLD))


def test_the_committed_schema_is_that_of_the_board():
    assert SCHEMA.read_text(encoding="utf-8") == schema_json()


@pytest.mark.parametrize("records", [[], WORLD, REFERENCES[:1]], ids=["nothing", "a board", "one release"])
def test_the_board_fits_the_schema_and_its_numbers_are_numbers(records):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON number")

    data = json.loads(to_json(build(records)), parse_constant=refuse)
    jsonschema.validate(data, json.loads(schema_json()))
    for leaf in leaves(data):
        assert not (isinstance(leaf, str) and leaf.strip("%").replace(".", "", 1).isdigit()), leaf


def test_the_schema_refuses_a_number_written_as_text():
    data = json.loads(to_json(build(WORLD)))
    data["protection"][0]["defenses"][0]["protected_score"] = "0.9"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(schema_json()))


def test_resistance_is_one_minus_the_mean_worst_case():
    row = rows(WORLD)["params"]
    assert row.resistance["data-free"].mean == pytest.approx(1 - 0.2)
    assert row.resistance["data-free"].matches == len(MATCHES) * len(SEEDS)
    assert row.resistance["labelled"].mean == pytest.approx(1 - 0.4)
    assert {worst.attack for worst in row.worst if worst.tier == "labelled"} == {TUNED}
    assert (row.protected_score, row.fidelity) == (pytest.approx(FINETUNED), pytest.approx(1.0))


def test_suites_have_boards_of_their_own():
    other = [r.model_copy(update={"suite": "another", "id": f"another {r.id}"}) for r in WORLD]
    boards = build([*WORLD, *other]).of(SuiteBoard)
    assert [board.suite for board in boards] == ["another", "toy"]
    assert boards[0].defenses == boards[1].defenses == build(WORLD).of(SuiteBoard)[0].defenses


def test_overlapping_intervals_tie_and_the_next_rank_counts_them():
    found = rows(
        [
            *REFERENCES,
            *plays("params", 0.2),
            *plays("params(scaling=symmetric)", 0.2),
            *plays("params(scaling=nonsymmetric)", (0.0, 0.6)),  # a mean of 0.7 whose interval reaches over 0.8
            *plays("params+params", 0.9),
        ]
    )
    assert {name: row.rank for name, row in found.items()} == {
        "params": 1,
        "params(scaling=symmetric)": 1,
        "params(scaling=nonsymmetric)": 1,
        "params+params": 4,
        "none": 5,
    }


ONE, OTHER = "params", "params(scaling=symmetric)"


@pytest.mark.parametrize(
    ("better", "worse", "tuned"),
    [
        ({"recovered": 0.1}, {"recovered": 0.2}, (0.9, 0.2)),
        ({"recovered": 0.2}, {"recovered": 0.2}, (0.3, 0.4)),
        ({"recovered": 0.2}, {"recovered": 0.2, "protected": FINETUNED - 0.01}, (0.3, 0.3)),
        ({"recovered": 0.2}, {"recovered": 0.2, "flops": 11}, (0.3, 0.3)),
    ],
    ids=["data-free", "then labelled", "then protected score", "then protect cost"],
)
@pytest.mark.parametrize("names", [(ONE, OTHER), (OTHER, ONE)])
def test_the_order_of_the_ranking(names, better, worse, tuned):
    first, second = names
    records = [
        *REFERENCES,
        *plays(second, **worse),
        *plays(first, **better),
        *more(first, TUNED, tuned[0], tier="labelled"),
        *more(second, TUNED, tuned[1], tier="labelled"),
    ]
    assert list(rows(records)) == [first, second, "none"]


@pytest.mark.parametrize(("protected", "ranked"), [(0.97 * FINETUNED, False), (0.985 * FINETUNED, True)])
def test_under_the_least_fidelity_a_defense_is_shown_last_and_unranked(protected, ranked):
    found = rows([*REFERENCES, *plays("params", 0.0, protected=protected)])
    row = found["params"]
    assert row.resistance["data-free"].mean == 1
    assert row.fidelity == pytest.approx(protected / FINETUNED)
    if ranked:
        assert (row.rank, row.unranked_because) == (1, None)
        assert list(found) == ["params", "none"]
    else:
        assert (row.rank, row.unranked_because) == (None, "fidelity under 0.98: 0.970 on d")
        assert list(found) == ["none", "params"]
        assert found["none"].rank == 1


def test_a_failed_release_is_unranked_with_its_reason_and_listed():
    release, *others = plays("params", 0.0)
    failed = make_record(
        victim=release.victim, seed=release.seed, attack=None, defense="params", status="failed", reason="singular"
    )
    (suite,) = build([*REFERENCES, failed, *others]).of(SuiteBoard)
    row = next(row for row in suite.defenses if row.defense == "params")
    assert (row.rank, row.unranked_because) == (None, "1 of 4 releases failed")
    assert [(f.kind, f.defense, f.attack, f.status, f.reason) for f in suite.failures] == [
        ("release", "params", None, "failed", "singular")
    ]


def test_who_was_not_evaluated_on_every_match_is_shown_and_not_ranked():
    part = [record for record in plays("params", 0.0) if record.victim == "v"]
    row = rows([*REFERENCES, *part])["params"]
    assert row.resistance["data-free"].mean == 1
    assert (row.rank, row.unranked_because) == (None, "not evaluated on 1 of 2 matches: d+v")
    idle = make_record(victim="e", donors=("v",), uses_victim=False, attack="base-only")
    assert rows([*REFERENCES, *plays("params", 0.0), idle])["params"].rank == 1, "nothing to steal on e+v"


@pytest.mark.parametrize("status", ["failed", "timeout", "memory", "crashed"])
def test_a_defense_whose_attacks_all_failed_has_no_resistance_and_no_rank(status):
    (suite,) = build([*REFERENCES, *plays("params", status=status)]).of(SuiteBoard)
    row = next(row for row in suite.defenses if row.defense == "params")
    assert row.resistance == {}
    assert row.worst == ()
    assert row.rank is None
    assert "no finished attack" in row.unranked_because
    (cell,) = [cell for cell in suite.cells if cell.defense == "params"]
    assert (cell.status, cell.plays, cell.qualified) == ({status: 4}, 4, 0)
    assert cell.recovered is cell.merged_score is cell.victim_score is None
    assert [failure.status for failure in suite.failures] == [status] * 4


def test_a_failed_attack_beside_a_finished_one_changes_no_resistance():
    finished = [*REFERENCES, *plays("params", 0.3)]
    (suite,) = build([*finished, *more("params", ALIGNED, status="timeout", reason="slow")]).of(SuiteBoard)
    row = next(row for row in suite.defenses if row.defense == "params")
    assert row.resistance == rows(finished)["params"].resistance
    assert {worst.attack for worst in row.worst} == {NAIVE}
    aligned = next(attack for attack in suite.attacks if attack.attack == ALIGNED)
    assert (aligned.failures, aligned.strongest_share, aligned.recovered) == (4, 0, None)
    assert len(suite.failures) == 4


def test_no_qualifying_attack_is_explicit():
    kept_nothing = [
        make_record(defense="params", victim=victim, donors=(donor,), seed=seed, test=(0.95, 0.1))
        for victim, donor in MATCHES
        for seed in SEEDS
    ]
    (suite,) = build([*REFERENCES, *kept_nothing]).of(SuiteBoard)
    row = next(row for row in suite.defenses if row.defense == "params")
    assert {(worst.attack, worst.recovered) for worst in row.worst} == {(None, 0.0)}
    (cell,) = [cell for cell in suite.cells if cell.defense == "params"]
    assert (cell.qualified, cell.recovered, cell.status) == (0, 0, {"ok": 4})
    naive = next(attack for attack in suite.attacks if attack.attack == NAIVE)
    assert naive.strongest_share == 0


def test_a_match_with_nothing_to_steal_counts_nowhere():
    poor = [
        make_record(victim="x", donors=("y",), **changes)
        for changes in (
            {"attack": "base-only", "uses_victim": False, "test": (0.9, 0.5)},
            {"test": (0.94, 0.9)},
            {"defense": "params", "test": (0.94, 0.9)},
        )
    ]
    world = [*REFERENCES, *plays("params", 0.3)]
    (suite,) = build([*world, *poor]).of(SuiteBoard)
    row = next(row for row in suite.defenses if row.defense == "params")
    assert row.resistance == rows(world)["params"].resistance
    assert next(match for match in suite.matches if match.match == "x+y").tiers["data-free"].is_match is False


@pytest.mark.parametrize("recovered", [0.0, 0.2, 0.9])
def test_evidence_of_a_later_round_never_raises_a_resistance(recovered):
    before = rows(WORLD)["params"].resistance
    after = rows([*WORLD, *more("params", "identity > average", recovered, round=1)])["params"].resistance
    assert {tier: after[tier].mean <= before[tier].mean for tier in before} == dict.fromkeys(before, True)
    if recovered == 0.9:
        assert after["data-free"].mean == pytest.approx(0.1)


def test_attacks_are_scored_over_defenses_without_none():
    (suite,) = build(WORLD).of(SuiteBoard)
    naive = next(attack for attack in suite.attacks if attack.attack == NAIVE)
    assert naive.recovered == pytest.approx((0.2 + 0.8) / 2)
    assert naive.strongest_share == 1
    assert naive.relative_cost == pytest.approx(10 / 1000)
    base_only = suite.attacks[-1]
    assert (base_only.attack, base_only.recovered, base_only.strongest_share) == ("base-only", None, None)


def test_flags_are_shown_beside_the_defense_and_the_attack():
    (suite,) = build(WORLD).of(SuiteBoard)
    assert {flag.name for flag in suite.flags} >= {"seed-spread", "task-vector-erased"}
    tuned = next(attack for attack in suite.attacks if attack.attack == TUNED)
    assert "task-vector-erased" in tuned.flags


def test_references_are_shown_per_match_seed_and_tier():
    (suite,) = build(WORLD).of(SuiteBoard)
    assert [(match.match, match.seed) for match in suite.matches] == [("d+v", 0), ("d+v", 1), ("v+d", 0), ("v+d", 1)]
    for match in suite.matches:
        reference = match.tiers["data-free"]
        assert (reference.floor, reference.ceiling) == pytest.approx((FLOOR, CEILING))
        assert (reference.floor_by, match.finetuned) == ("base-only", FINETUNED)


def test_extraction_can_be_left_out():
    """Distillation recovers all, weights a quarter of what there is to recover: 0.5 to 0.9."""
    tier = Tier.UNLABELLED
    found = build(
        [
            make_record(attack=None),
            make_record(attack=None, defense="params"),
            make_record(attack="base-only", uses_victim=False, test=(0.5, 0.3)),
            make_record(test=(0.9, 0.8)),
            make_record(defense="params", test=(0.6, 0.8)),
            make_record(defense="params", attack="distill-base", tier=tier, extraction=True, test=(0.9, 0.8)),
        ]
    )
    (row,) = [d for d in found.of(SuiteBoard)[0].defenses if d.defense == "params"]
    assert row.resistance[tier].mean == pytest.approx(0.0)
    assert row.resistance_of_weights[tier].mean == pytest.approx(0.75)
    assert row.resistance[Tier.DATA_FREE] == row.resistance_of_weights[Tier.DATA_FREE]
    assert row.without_extraction(tier) == pytest.approx(0.75)
    assert row.without_extraction(Tier.DATA_FREE) is None
