"""One spelling of every pipeline: it round-trips, and what does not parse is pointed at."""

import math
from functools import reduce
from types import SimpleNamespace
from typing import Annotated

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from mergearena.bench.errors import BadConfig, BadPipeline, UnknownName
from mergearena.bench.games.protection.pipeline import Chain, Pipeline, parse_attack, parse_defense
from mergearena.bench.games.protection.players import Align, Defense, Recover
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Merge
from mergearena.bench.players.tier import Tier


def configs(player):
    """Every config of a player that leaves out some fields and sets others to allowed values."""
    fields = {
        name: st.from_type(reduce(lambda kind, limit: Annotated[kind, limit], f.metadata, f.annotation)).filter(
            lambda value: not isinstance(value, float) or math.isfinite(value)
        )
        for name, f in player.Config.model_fields.items()
    }
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def random_player(draw, kind):
    player = draw(st.sampled_from(list(registry.players(kind))))
    try:
        return player(**draw(configs(player)))
    except BadConfig:  # fields that are allowed one by one, but not together
        reject()


def some(kind, least, most):
    return st.lists(random_player(kind), min_size=least, max_size=most).map(tuple)


chains = some("defense", 1, 3).map(Chain)
pipelines = st.one_of(
    st.builds(
        lambda aligners, merge, recoveries: Pipeline(aligners, merge, recoveries),
        some("align", 1, 3),
        random_player("merge"),
        some("recover", 0, 2),
    ),
    random_player("attack").map(lambda whole: Pipeline(whole=whole)),
)


def same(parsed, made):
    return [(type(p), p.config) for p in parsed] == [(type(p), p.config) for p in made]


@settings(max_examples=60)
@given(pipelines)
def test_attacks_round_trip_through_their_spelling(pipeline):
    parsed = parse_attack(pipeline.spelling)
    assert parsed.spelling == pipeline.spelling
    assert same(parsed.stages, pipeline.stages)
    assert parsed.tier == max((stage.tier for stage in pipeline.stages), key=lambda tier: tier.rank)


@given(chains)
def test_defenses_round_trip_through_their_spelling(chain):
    parsed = parse_defense(chain.spelling)
    assert parsed.spelling == chain.spelling
    assert same(parsed.defenses, chain.defenses)
    assert parsed.preserves_function is all(defense.claims_function for defense in chain.defenses)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("task-arithmetic", "identity > task-arithmetic"),
        ("ties > finetune", "identity > ties > finetune"),
        ("  weight-matching+scale-normalization>ties ( density = 0.3 ,scale=2 ) ",
         "weight-matching+scale-normalization > ties(scale=2.0, density=0.3)"),
        ("ties(scale=2, density=0.3,)", "identity > ties(scale=2.0, density=0.3)"),
        ("ties(density=0.2, scale=null)", "identity > ties"),
        ("ties()", "identity > ties"),
        ("dare(then='ties')", "identity > dare(then=ties)"),
        ("ties(scale=1e+16)", "identity > ties(scale=1e+16)"),
        ("finetune-base( steps = 5 )", "finetune-base(steps=5)"),
    ],
)  # fmt: skip
def test_one_canonical_spelling(text, canonical):
    assert parse_attack(text).spelling == canonical
    assert parse_attack(canonical).spelling == canonical


@pytest.mark.parametrize(
    ("text", "problem", "column"),
    [
        ("ties(density=0.2", "expected ',' or ')'", 16),
        ("ties(", "expected key=value or ')'", 5),
        ("ties(density)", "expected key=value or ')'", 5),
        ("ties(density=)", "expected a value for 'density'", 13),
        ("ties(density=0.2, density=0.3)", "'density' is given twice", 18),
        ("ties(density=0.2 > x", "expected ',' or ')'", 17),
        ("> ties", "expected a name", 0),
        ("ties >", "expected a name", 6),
        ("identity > > ties", "expected a name", 11),
        ("identity ++ ties", "expected a name", 10),
        ("identity > ties)", "expected '+', '>' or the end", 15),
        ("identity > 2ties", "expected a name", 11),
        ("", "expected a name", 0),
        ("identity > tiess", "did you mean 'ties'", 11),
        ("identity > ties(densty=1)", "unknown config key 'densty'", 11),
        ("identity > params", "'params' is a defense", 11),
    ],
)
def test_errors_point_at_the_place(text, problem, column):
    with pytest.raises((BadPipeline, UnknownName, BadConfig)) as caught:
        parse_attack(text)
    message, shown, pointer = str(caught.value).split("\n")
    assert problem in message
    assert shown.removeprefix("  ") == text
    assert pointer == "  " + " " * column + "^"


@pytest.mark.parametrize(
    "text",
    [
        "ties > weight-matching",
        "identity > ties > average",
        "identity > ties+average",
        "identity",
        "finetune",
        "identity > finetune",
        "identity > finetune > ties",
        "identity > ties > finetune > finetune",
        "identity+ties > finetune",
        "finetune-base > ties",
        "base-only+base-only",
        "identity > ties > base-only",
    ],
)
def test_stages_in_the_wrong_order(text):
    with pytest.raises(BadPipeline, match=r"aligner\+... > one merge > recovery\+..."):
        parse_attack(text)


def test_a_defense_has_one_segment_and_only_defenses():
    with pytest.raises(BadPipeline, match="join its links with '\\+'"):
        parse_defense("params > none")
    with pytest.raises(UnknownName, match="'ties' is a merge"):
        parse_defense("params+ties")


def test_an_unknown_key_lists_the_keys_there_are():
    with pytest.raises(BadConfig, match="ties: unknown config key 'densty'; it takes: scale, density, per"):
        parse_attack("ties(densty=0.3)")
    with pytest.raises(BadConfig, match="average: unknown config key 'x'; it takes: none"):
        parse_attack("average(x=1)")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ties(density=many)", "ties: density='many'"),
        ("ties(density=[1, 2])", r"ties: density=\[1, 2\]"),
        ("dare(then=average)", "dare: then='average'"),
        ("finetune-base(steps=0)", "finetune-base: steps=0"),
        ("finetune-base(steps=1.5)", "finetune-base: steps=1.5"),
        ("finetune-base(lr=1e999)", "finetune-base: lr=inf"),
    ],
)
def test_a_bad_value_is_named_with_its_key(text, named):
    with pytest.raises(BadConfig, match=f"^{named} is not allowed: "):
        parse_attack(text)


@pytest.mark.parametrize(
    ("text", "tier", "uses_victim"),
    [
        ("weight-matching > ties", Tier.DATA_FREE, True),
        ("weight-matching > ties > finetune", Tier.LABELLED, True),
        ("base-only", Tier.DATA_FREE, False),
        ("finetune-base", Tier.LABELLED, False),
    ],
)
def test_the_tier_is_the_highest_of_the_stages(text, tier, uses_victim):
    assert parse_attack(text).tier == tier
    assert parse_attack(text).uses_victim is uses_victim


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("none", True),
        ("params(scaling=nonsymmetric)+params", True),
        ("params(dropout=weights)", False),
        ("params+params(dropout=weights)", False),
        ("params(dropout=weights, rate=0)", True),
    ],
)
def test_a_chain_claims_the_function_only_if_every_link_does(text, claims):
    assert parse_defense(text).preserves_function is claims


class Scale(Defense, Align, Recover):
    """Multiplies by a number."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def protect(self, victim, view):
        return {key: value * self.by for key, value in victim.items()}

    align = recover = protect


class Shift(Scale):
    """Adds a number."""

    def protect(self, victim, view):
        return {key: value + self.by for key, value in victim.items()}

    align = recover = protect


class Difference(Merge):
    """The first model minus the others: shows who came first."""

    def merge(self, models, view):
        first, *others = models.values()
        return {key: value - sum(other[key] for other in others) for key, value in first.items()}


def test_a_chain_applies_its_links_from_left_to_right():
    victim = {"w": torch.tensor(3.0)}
    assert Chain((Scale(2), Shift(1))).protect(victim, None)["w"] == 7
    assert Chain((Shift(1), Scale(2))).protect(victim, None)["w"] == 8
    assert victim["w"] == 3


def test_a_pipeline_aligns_then_merges_the_victim_first_then_recovers():
    released, donor = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([10.0, 20.0])}
    view = SimpleNamespace(suite=SimpleNamespace(ties={}), released=released, victim="a", donors={"b": donor})
    seen = []
    pipeline = Pipeline((Scale(2), Shift(1)), Difference(), (Shift(5), Scale(3)))

    merged = pipeline.run(view, on_aligned=seen.append)

    assert [state["w"].tolist() for state in seen] == [[7.0, 9.0]]
    assert merged["w"].tolist() == [(7 - 10 + 5) * 3, (9 - 20 + 5) * 3]
