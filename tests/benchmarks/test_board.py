"""Building the board from five thousand records on disk: it should take seconds, side by side with its parts."""

import random

import pytest

from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.games.statistics import group
from mergearena.bench.records import places, text
from mergearena.leaderboard.archive.survey import survey
from mergearena.leaderboard.board.build import build, to_json
from mergearena.leaderboard.page import pictures
from mergearena.leaderboard.page.render import render
from mergearena.leaderboard.protection.parts import SuiteBoard
from record_factory import make_record

MATCHES = [("a", ("b",)), ("b", ("c",)), ("c", ("d",)), ("d", ("a",))]
SEEDS, DEFENSES, ATTACKS = (0, 1), 24, 26


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The grid of a large board: baselines, releases, and every attack on every defense, match and seed."""
    chance = random.Random(0)
    root = tmp_path_factory.mktemp("board")
    defenses = [f"params(share=0.{number})" for number in range(DEFENSES - 1)]
    pipelines = {p.spelling: p for p in map(parse_attack, presets.CATALOGUE) if p.uses_victim}

    def put(victim, donors, seed, low, **changes):
        test = (chance.uniform(low, 0.95), *(chance.uniform(0.85, 0.9) for _ in donors))
        record = make_record(victim=victim, donors=donors, seed=seed, test=test, **changes)
        path = places.path_of(record, root / "records")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.to_text(record.model_dump(mode="json")))  # without waiting for the disk

    for victim, donors in MATCHES:
        for seed in SEEDS:
            put(victim, donors, seed, 0.45, attack="base-only", uses_victim=False)
            for defense in ("none", *defenses):
                put(victim, (), seed, 0.94, attack=None, defense=defense)
                for attack in list(pipelines)[:ATTACKS]:
                    here = {"attack": attack, "tier": pipelines[attack].tier, "defense": defense}
                    put(victim, donors, seed, 0.9 if defense == "none" else 0.5, **here)
    return root


@pytest.fixture(scope="module")
def found(folder):
    return survey(folder).records.values()


@pytest.mark.benchmark(group="board of 5,000 records")
class TestBoard:
    def test_read(self, benchmark, folder):
        assert len(benchmark.pedantic(survey, (folder,), rounds=3).records) > 5000

    def test_build(self, benchmark, found):
        board = benchmark.pedantic(build, (found,), rounds=3, warmup_rounds=1)
        assert len(board.of(SuiteBoard)[0].defenses) == DEFENSES

    def test_json(self, benchmark, found):
        benchmark.pedantic(to_json, (build(found),), rounds=3)

    def test_page(self, benchmark, found):
        benchmark.pedantic(render, (build(found),), rounds=3)

    def test_pictures(self, benchmark, found, tmp_path):
        board = build(found)
        benchmark.pedantic(pictures.write, (board, tmp_path), rounds=1)

    def test_group(self, benchmark, found):
        """The least that any board does: a pass over the records."""
        benchmark(lambda: group(found, lambda r: (r.match, r.seed)))
