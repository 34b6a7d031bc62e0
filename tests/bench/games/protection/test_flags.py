"""Each flag is raised by a minimal pair of records, and is silent just under its threshold."""

import pytest

from mergearena.bench.games.protection.flags import find_flags
from mergearena.bench.games.protection.scoring import Points, Reference
from mergearena.bench.players.player import Config
from mergearena.bench.players.stages import Merge
from mergearena.bench.players.tier import Tier
from record_factory import NAIVE, make_record

ALIGNED = "weight-matching > task-arithmetic"


def raised(*records, references=None):
    return {(flag.name, flag.attack) for flag in find_flags(records, references or {})}


def attack(spelling, score, defense="params", **changes):
    return make_record(attack=spelling, defense=defense, test=(score, score), **changes)


@pytest.mark.parametrize(
    ("claims", "difference", "flagged"), [(True, 1.1e-3, True), (True, 0.9e-3, False), (False, 1.0, False)]
)
def test_not_function_preserving(claims, difference, flagged):
    release = make_record(attack=None, defense="params", claims_function=claims, logit_difference=difference)
    assert raised(release) == ({("not-function-preserving", None)} if flagged else set())


def test_a_player_that_warns_is_flagged_with_its_words():
    flags = find_flags([attack(ALIGNED, 0.5, warnings=("2 heads keep their gauge",))], {})
    assert [(f.name, f.attack, f.detail) for f in flags] == [("warning", ALIGNED, "2 heads keep their gauge")]


@pytest.mark.parametrize(("ratio", "flagged"), [(0.0, True), (0.009, True), (0.011, False), (None, False)])
def test_task_vector_erased(ratio, flagged):
    record = attack(ALIGNED, 0.5, task_vector_ratio=ratio)
    assert raised(record) == ({("task-vector-erased", ALIGNED)} if flagged else set())


@pytest.mark.parametrize(
    ("with_aligner", "score", "defense", "flagged"),
    [
        (ALIGNED, 0.789, "none", True),
        (ALIGNED, 0.791, "none", False),
        (ALIGNED, 0.5, "params", False),  # against a defense it proves nothing about the aligner
        ("weight-matching > ties", 0.5, "none", False),  # the merge differs too
    ],
)
def test_aligner_hurts_unprotected(with_aligner, score, defense, flagged):
    flags = raised(attack(NAIVE, 0.8, "none"), attack(with_aligner, score, defense))
    assert flags == ({("aligner-hurts-unprotected", with_aligner)} if flagged else set())


def test_aligners_are_compared_on_one_match_and_seed_only():
    assert not raised(attack(NAIVE, 0.8, "none"), attack(ALIGNED, 0.1, "none", seed=1))


TUNED = f"{ALIGNED} > finetune"


@pytest.mark.parametrize(
    ("before", "score", "flagged"),
    [(ALIGNED, 0.779, True), (ALIGNED, 0.781, False), (NAIVE, 0.5, False)],
)
def test_gradient_masked(before, score, flagged):
    flags = raised(attack(before, 0.8), attack(TUNED, score, tier=Tier.LABELLED))
    assert flags == ({("gradient-masked", TUNED)} if flagged else set())


@pytest.mark.parametrize(
    ("more", "score", "flagged"),
    [
        (f"{ALIGNED} > finetune(steps=50)", 0.779, True),
        (f"{ALIGNED} > finetune(steps=50)", 0.781, False),
        (f"{ALIGNED} > finetune(steps=50, lr=0.01)", 0.5, False),  # not only the budget differs
        (f"{ALIGNED} > finetune(steps=10)", 0.5, False),  # less budget is expected to do worse
    ],
)
def test_budget_inversion(more, score, flagged):
    flags = raised(attack(TUNED, 0.8, tier=Tier.LABELLED), attack(more, score, tier=Tier.LABELLED))
    assert {name for name in flags if name[1] == more} == ({("budget-inversion", more)} if flagged else set())


@pytest.fixture
def searching_merge(registering):
    """A merge that is data-free unless it searches its coefficient on labels."""

    @registering.register("merge")("flag-probe")
    class Probe(Merge):
        """Nothing."""

        class Config(Config):
            search: bool = False

        @property
        def tier(self):
            return Tier.LABELLED if self.config.search else Tier.DATA_FREE

        def merge(self, models, view):
            raise AssertionError("not played")


@pytest.mark.parametrize(("score", "flagged"), [(0.779, True), (0.781, False)])
def test_tier_inversion(searching_merge, score, flagged):
    searched = "identity > flag-probe(search=true)"
    flags = raised(attack("identity > flag-probe", 0.8), attack(searched, score, tier=Tier.LABELLED))
    assert flags == ({("tier-inversion", searched)} if flagged else set())


@pytest.mark.parametrize(("second", "flagged"), [(0.61, True), (0.59, False)])
def test_seed_spread_of_recovered(second, flagged):
    points = Points(floor=0.0, ceiling=1.0, donor_ceiling=0.5)
    everywhere = {Tier.DATA_FREE: Reference(points, "base-only", NAIVE)}
    records = [make_record(defense="params", seed=seed, test=(v, 0.5)) for seed, v in enumerate((0.5, second))]
    flags = raised(*records, references={("v+d", seed): everywhere for seed in (0, 1)})
    assert flags == ({("seed-spread", NAIVE)} if flagged else set())


def test_seed_spread_needs_something_to_steal():
    points = Points(floor=0.50, ceiling=0.54, donor_ceiling=0.5)
    nowhere = {Tier.DATA_FREE: Reference(points, "base-only", NAIVE)}
    records = [make_record(defense="params", seed=seed, test=(v, 0.5)) for seed, v in enumerate((0.50, 0.54))]
    assert not raised(*records, references={("v+d", seed): nowhere for seed in (0, 1)})


def test_failed_plays_raise_nothing_and_order_does_not_matter():
    records = [
        attack(NAIVE, 0.8, "none"),
        attack(ALIGNED, 0.5, "none", task_vector_ratio=0.0),
        make_record(attack=TUNED, tier=Tier.LABELLED, defense="none", status="failed"),
    ]
    flags = find_flags(records, {})
    assert {flag.name for flag in flags} == {"aligner-hurts-unprotected", "task-vector-erased"}
    assert flags == find_flags(records[::-1], {})


MODELS = {"base": "0" * 64, "v": "1" * 64, "d": "2" * 64}


def reference(attack, victim, donor, test):
    """A play that hands back a model that it was given, on ``victim+donor``."""
    donors = (donor,) if attack else ()
    record = make_record(defense="none", attack=attack, victim=victim, donors=donors, test=test, uses_victim=False)
    return record.model_copy(update={"provenance": record.provenance.model_copy(update={"checkpoints": MODELS})})


def inconsistent(*records):
    return {flag.attack for flag in find_flags(records, {}) if flag.name == "inconsistent-score"}


@pytest.mark.parametrize(("of_donor", "flagged"), [((0.4, 0.904), False), ((0.4, 0.906), True), ((0.9, 0.4), True)])
def test_a_model_that_reads_differently_as_victim_and_as_donor_is_flagged(of_donor, flagged):
    """The last of them is what a scorer makes that swaps the two."""
    release = reference(None, "v", None, (0.9,))
    found = inconsistent(release, reference("donors-only", "d", "v", of_donor))
    assert found == ({None, "donors-only"} if flagged else set())


def test_the_base_reads_the_same_in_every_match():
    assert inconsistent(reference("base-only", "v", "d", (0.4, 0.5)), reference("base-only", "d", "v", (0.4, 0.5)))
    assert not inconsistent(reference("base-only", "v", "d", (0.4, 0.5)), reference("base-only", "d", "v", (0.5, 0.4)))


def test_models_of_other_weights_are_not_compared():
    known = reference("base-only", "v", "d", (0.4, 0.5))
    other = reference("base-only", "d", "v", (0.4, 0.5))
    weights = other.provenance.model_copy(update={"checkpoints": {**MODELS, "base": "9" * 64}})
    assert not inconsistent(known, other.model_copy(update={"provenance": weights}))
