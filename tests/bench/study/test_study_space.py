"""The space of a study: derived from stages and their configs, within tiers, and no known attack is outside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
import pytest
from pydantic import Field, PositiveInt

from mergearena import attacks
from mergearena.bench import study
from mergearena.bench.errors import BadConfig, UnknownName
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.players.options import Searched, Unsearched
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Merge
from mergearena.bench.players.tier import Tier
from mergearena.bench.study.options import FACTOR, NUMBER, Option, Range, options_of
from mergearena.bench.study.search import known_within
from mergearena.bench.study.space import IDENTITY, NOTHING, START, space_of

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(autouse=True)
def forgotten(registering):
    """Forget afterwards what a test registers."""


class ManyConfig(AttackConfig):
    closed: float = Field(default=0.2, ge=0, le=2)
    opened: float = Field(default=0.2, gt=0, lt=1)
    count: int = Field(default=3, gt=1, lt=6)
    unbounded: float = Field(default=4.0, gt=0)
    whole: PositiveInt = 3
    nothing: float | None = None
    few: Annotated[int, Field(gt=0)] | None = 8
    word: Literal["a", "b"] = "a"
    either: Annotated[float, Field(ge=0, le=1)] | Literal["chosen"] | None = None
    flag: bool = False
    text: str = "free"
    said: Annotated[float | None, Searched(0.1, 2.0)] = None
    held: Annotated[float, Field(ge=1), Searched(0.5, 2.0)] = 30.0
    left: Annotated[Annotated[int, Field(gt=0)] | Literal["some"] | None, Unsearched()] = 8


@pytest.fixture
def searched():
    @attacks.merger("study-many")
    class Many(Merge):
        """Has every kind of option."""

        Config = ManyConfig

        @property
        def tier(self) -> Tier:
            return Tier.LABELLED if self.config.either == "chosen" else Tier.DATA_FREE

        def merge(self, models: Mapping[str, Any], view: Any) -> Any:
            return dict(view.base)

    def of(tier: Tier):
        options = options_of(registry.find("study-many"), tier)
        assert options is not None
        return options.searched

    return of


def test_ranges_are_the_bounds_or_a_factor_about_the_default(searched):
    found = {name: option.range for name, option in searched(Tier.DATA_FREE).items() if option.range}
    assert found["closed"] == Range(0, 2, False)
    assert (found["count"].low, found["count"].high, found["count"].integer) == (2, 5, True)
    assert 0 < found["opened"].low < 0.02
    assert 0.98 < found["opened"].high < 1
    assert (found["unbounded"].low, found["unbounded"].high) == (4 / FACTOR, 4 * FACTOR)
    assert (found["whole"].low, found["whole"].high) == (1, 3 * FACTOR)
    assert found["either"] == Range(0, 1, False)


def test_a_field_may_name_its_range_which_its_constraints_bound(searched):
    found = searched(Tier.DATA_FREE)
    assert found["said"] == Option((None,), Range(0.1, 2.0, False))
    assert found["held"] == Option((30.0,), Range(1, 2.0, False))
    assert found["left"] == Option(("some", None), None)


def test_ranges_are_what_they_were_when_the_studies_of_this_project_were_made():
    """Another range is another study, which cannot go on where an earlier one was stopped."""
    known = json.loads(Path(__file__).with_name("searched.json").read_text())
    for name, (choices, ends) in known.items():
        stage, option = name.split(".")
        found = options_of(registry.find(stage), Tier.LABELLED).searched[option]
        assert (list(found.choices), found.range and [found.range.low, found.range.high]) == (choices, ends), name


def test_no_stage_or_option_is_known_by_name():
    """What a study searches is said by fields, and found in the registry."""
    folder = Path(study.__file__).parent
    names = {player.name for player in registry.players("align", "merge", "recover")} - {IDENTITY}
    options = {name for player in registry.players("align", "merge", "recover") for name in player.Config.model_fields}
    text = "".join((folder / f"{name}.py").read_text() for name in ("options", "space"))
    assert not [name for name in names | options if f'"{name}"' in text]


def test_what_has_no_range_and_no_choice_keeps_its_default(searched):
    assert {"nothing", "text"}.isdisjoint(searched(Tier.LABELLED))


def test_choices_are_literals_booleans_and_null(searched):
    found = {name: option.choices for name, option in searched(Tier.LABELLED).items()}
    assert found["word"] == ("a", "b")
    assert {*found["flag"]} == {False, True}
    assert {*found["either"]} == {"chosen", None}
    assert found["few"] == (None,)


def test_a_choice_of_a_higher_tier_is_left_out(searched):
    assert searched(Tier.DATA_FREE)["either"].choices == (None,)
    trial = optuna.trial.FixedTrial({"x": NUMBER, f"x.{NUMBER}": 0.25})
    assert searched(Tier.DATA_FREE)["either"].suggest(trial, "x") == 0.25


def test_a_stage_registered_by_anyone_takes_part(searched):
    assert "study-many" in space_of(Tier.DATA_FREE, []).merges
    assert list(space_of(Tier.DATA_FREE, [], ("study-many",)).merges) == ["study-many"]


def test_an_option_without_a_default_is_always_searched():
    @attacks.merger("study-needy")
    def needy(models, view, *, by: Annotated[float, Field(ge=1, le=2)]):
        """Needs a number."""
        return dict(view.base)

    space = space_of(Tier.DATA_FREE, [], ("study-needy",))
    spelled = {space.suggest(trial) for trial in random_trials(5)}
    assert len(spelled) == 5
    assert all(1 <= parse_attack(text).merge.config.by <= 2 for text in spelled)


@pytest.mark.parametrize("tier", Tier)
def test_every_known_attack_is_in_the_space_and_comes_back_as_it_was(tier):
    known = known_within(tier)
    assert known
    space = space_of(tier, known)
    for pipeline in known:
        assert space.suggest(optuna.trial.FixedTrial(space.encode(pipeline))) == pipeline.spelling


@pytest.mark.parametrize("tier", Tier)
def test_whatever_is_suggested_plays_in_the_tier_in_its_canonical_spelling(tier):
    space = space_of(tier, known_within(tier))
    spelled, refused = [], 0
    for trial in random_trials(150):
        try:
            spelled.append(space.suggest(trial))
        except BadConfig:
            refused += 1
    assert refused < 30  # options that do not go together, which bounds alone do not tell
    for text in spelled:
        assert parse_attack(text).spelling == text
        assert tier.allows(parse_attack(text).tier)
    stages = {stage.name for text in spelled for stage in parse_attack(text).stages}
    assert ("finetune" in stages) == (tier is Tier.LABELLED)


def test_named_stages_alone_are_searched_and_known_attacks_of_others_are_not_begun_with():
    only = ("weight-matching", "gauge-anchor", "task-arithmetic", "average")
    assert [p.spelling for p in known_within(Tier.DATA_FREE, only)] == ["identity > task-arithmetic"]
    space = space_of(Tier.DATA_FREE, known_within(Tier.DATA_FREE, only), only)
    assert space.starts == (NOTHING,)
    stages = {stage.name for trial in random_trials(60) for stage in parse_attack(space.suggest(trial)).stages}
    assert stages == {"identity", *only}


def test_a_pipeline_may_begin_with_the_aligners_of_a_known_attack():
    known = parse_attack("weight-matching(passes=3)+gauge-anchor > average")
    space = space_of(Tier.DATA_FREE, [known], ("weight-matching", "gauge-anchor", "average", "anchor"))
    begun = next(t for trial in random_trials(60) if (t := space.suggest(trial)) and trial.params[START] != NOTHING)
    assert begun.startswith("weight-matching(passes=3)+gauge-anchor")


@pytest.mark.parametrize(
    ("only", "error", "problem"),
    [
        (("weight-matchin", "ties"), UnknownName, "did you mean 'weight-matching'"),
        (("params", "ties"), UnknownName, "'params' is a defense"),
        (("weight-matching",), BadConfig, "no stage merges among: weight-matching"),
        (("ties", "finetune"), BadConfig, "finetune cannot be played in tier data-free; allow a higher one"),
    ],
)
def test_stages_that_cannot_be_searched_are_named(only, error, problem):
    with pytest.raises(error, match=problem):
        space_of(Tier.DATA_FREE, [], only)


def random_trials(count):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask() for _ in range(count)]
