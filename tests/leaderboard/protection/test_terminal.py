"""What the terminal says of how sure a mean is."""

from io import StringIO

import pytest
from rich.console import Console

from mergearena.bench.games import backdoor
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.record import Scores, Shares
from mergearena.leaderboard.backdoor.rows import backdoor_board
from mergearena.leaderboard.backdoor.terminal import merger_table
from mergearena.leaderboard.board import tables
from mergearena.leaderboard.board.parts import IntervalPart
from mergearena.leaderboard.page import formats
from mergearena.leaderboard.protection import terminal
from mergearena.leaderboard.protection.matrix import Matrix
from mergearena.leaderboard.protection.rows import suite_board
from record_factory import make_record

KEPT = (
    "id",
    "suite",
    "seed",
    "metric",
    "key",
    "examples",
    "status",
    "cost",
    "evaluation_cost",
    "fine_tuning_flops",
    "provenance",
)


def attacked(asr, match=("a", "b"), seed=0):
    """A merge in which a trigger succeeds on a share of its target's task."""
    template = make_record(suite="toy", seed=seed, attack=f"{match} {seed}")  # for a new id
    shares = {task: asr for task in match}
    both = {"validation": shares, "test": shares}
    return backdoor.Record(
        **{name: getattr(template, name) for name in KEPT},
        kind="merge",
        contributors=match,
        malicious=1,
        attack="badnets",
        defense="average",
        target_task=match[0],
        target=0,
        tier=Tier.DATA_FREE,
        asr=Shares(**both),
        robust=Shares(**both),
        score=Scores(**both),
    )


def worst(*records):
    table = merger_table(backdoor_board("toy", records).mergers)
    (found,) = next(column for column in table.columns if column.header == "worst ASR").cells
    return found


def test_the_worst_case_of_one_match_has_no_interval():
    assert worst(attacked(0.25)) == "25 (one match)"
    assert worst(attacked(0.25), attacked(0.75, ("b", "a"))) == "50 [25, 75]"
    assert worst(attacked(0.25), attacked(0.75, seed=1)) == "50 [25, 75]"
    assert worst(attacked(0.25), attacked(0.25, ("b", "a"))) == "25 [25, 25]"  # measured twice, and the same


def test_the_resistance_of_one_match_has_no_interval():
    records = [make_record(), make_record(defense="params"), make_record(attack=None, defense="params")]
    (row, *_) = suite_board("toy", records).defenses
    found = {}
    for matches in (1, 2):
        part = IntervalPart(mean=0.4, low=0.3, high=0.5, matches=matches)
        table = terminal.defense_table([row.model_copy(update={"resistance": {Tier.DATA_FREE: part}})], frozenset())
        found[matches] = next(column for column in table.columns if column.header == Tier.DATA_FREE).cells
    assert {matches: [*cells] for matches, cells in found.items()} == {
        1: ["0.40 (one match)"],
        2: ["0.40 [0.30, 0.50]"],
    }


def test_extraction_stands_in_brackets_where_it_makes_a_difference():
    records = [make_record(), make_record(defense="params"), make_record(attack=None, defense="params")]
    (row, *_) = suite_board("toy", records).defenses
    whole, weights = (IntervalPart(mean=mean, low=0.0, high=1.0, matches=2) for mean in (0.1, 0.8))
    found = {}
    for other in (whole, weights):
        parts = {"resistance": {Tier.UNLABELLED: whole}, "resistance_of_weights": {Tier.UNLABELLED: other}}
        table = terminal.defense_table([row.model_copy(update=parts)], frozenset())
        found[other.mean] = next(column for column in table.columns if column.header == Tier.UNLABELLED).cells
    assert {mean: [*cells] for mean, cells in found.items()} == {0.1: ["0.10"], 0.8: ["0.10 (0.80)"]}


@pytest.mark.parametrize("width", [40, 80, 150])
def test_a_matrix_too_wide_for_the_terminal_goes_on_below(width):
    attacks = [f"attack {number}" for number in range(30)]
    console = Console(width=width, record=True, file=StringIO())
    console.print(Matrix(["moat", "params"], attacks, {}, "recovered"))
    lines = console.export_text().splitlines()
    heads = [line.split()[1:] for line in lines if line.split()[:1] == ["defense"]]
    assert [letter for head in heads for letter in head] == [*tables.letters(attacks).values()]
    assert len({len(head) for head in heads[:-1]}) <= 1
    assert [sum(name in line for line in lines) for name in ("moat", "params")] == [len(heads)] * 2
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("cost", "says"),
    [(None, "–"), (0.0, "0 %"), (3.6e-8, "< 0.0001 %"), (1e-5, "0.001 %"), (0.1234, "12 %"), (2.04, "2.0 ×")],
)
def test_a_cost_keeps_two_digits_and_next_to_nothing_is_a_bound(cost, says):
    assert formats.relative(cost) == says
