"""What a study found: a pure function of its journal and records. Only here is test read, and of two attacks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from mergearena.bench.errors import ArenaError
from mergearena.bench.games import archive
from mergearena.bench.games.protection import Record
from mergearena.bench.games.protection.pipeline import parse_attack
from mergearena.bench.study.scores import scale
from mergearena.bench.study.settings import Settings
from mergearena.bench.study.space import IDENTITY, MERGE, RECOVERY
from mergearena.bench.study.trials import Trial, read

ENOUGH = 10
"""Trials from which on it is said what mattered, and trials of one stage whether its options did."""
QUANTILE = 0.2
"""Share of the trials, the strongest, that what mattered sets apart from the rest."""
SHOWN = 10
"""Pipelines, and things that mattered, that are shown."""


@dataclass(frozen=True)
class Read:
    """An attack, and what it recovers."""

    trial: Trial
    test: float
    """On test."""
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Mattered:
    """Something to choose, and how much the choice mattered."""

    name: str
    share: float
    """Of everything that mattered."""
    detail: str


@dataclass(frozen=True)
class Findings:
    """What a study found."""

    settings: Settings
    trials: tuple[Trial, ...]
    strongest: Read
    """Chosen on validation; of equals the cheapest."""
    known: Read | None
    """Likewise, of the known attacks that the study began with."""
    mattered: tuple[Mattered, ...]
    fine_tuning_flops: int
    """Operations of fine-tuning one model from the base: the unit of costs."""

    @property
    def best(self) -> list[Trial]:
        """The strongest pipelines."""
        return sorted((trial for trial in self.trials if trial.attack), key=lambda trial: trial.order)[:SHOWN]

    @property
    def reached(self) -> float:
        """What the best attack known now recovers on test. A new one can raise it and never lower it."""
        return max(self.strongest.test, self.known.test if self.known else 0.0)


def findings(folder: Path) -> Findings:
    """What the study in a folder has found so far.

    Raises:
        ArenaError: there is none, or no trial has ended.
        BadRecord: a record is damaged.
    """
    settings = Settings.read(folder)
    study, trials = read(folder)
    tried = [trial for trial in trials if trial.attack]
    if not tried:
        raise ArenaError(f"{folder}: no trial has ended yet; go on with `mergearena study run`")
    played = [r for r in archive.read_all(folder / "records") if isinstance(r, Record)]
    on_test = scale(played, settings.tier, "test")

    def of(trial: Trial) -> Read:
        here = tuple(r for r in played if (r.attack, r.defense) == (trial.attack, settings.defense))
        return Read(trial, on_test.recovered(here), here)

    known = [trial for trial in tried if trial.known]
    return Findings(
        settings=settings,
        trials=tuple(trials),
        strongest=of(min(tried, key=lambda trial: trial.order)),
        known=of(min(known, key=lambda trial: trial.order)) if known else None,
        mattered=_mattered(study, tried),
        fine_tuning_flops=played[0].fine_tuning_flops,
    )


def _mattered(study: optuna.Study, tried: Sequence[Trial]) -> tuple[Mattered, ...]:
    """What sets the strongest trials apart (PED-ANOVA): stages, wherever they stand, and their options."""
    values = {trial.recovered for trial in tried}
    if len(tried) < ENOUGH or len(values) == 1:
        return ()
    given = {trial.number: trial for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    aligners = {stage.name for trial in tried for stage in parse_attack(trial.attack).aligners} - {IDENTITY}
    searched = Counter(name for trial in tried for name in given[trial.number].params)
    options = {name for name, count in searched.items() if "." in name and count >= ENOUGH}
    described = [_described(trial, given[trial.number], sorted(aligners), options) for trial in tried]
    told = optuna.create_study(direction="maximize")
    told.add_trials(described)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of conditional parameters and few trials
        shares = get_param_importances(told, evaluator=PedAnovaImportanceEvaluator(target_quantile=QUANTILE))
    ordered = [name for name, share in shares.items() if share > 0][:SHOWN]
    return tuple(Mattered(name, shares[name], _detail(name, described)) for name in ordered)


def _described(trial: Trial, given: FrozenTrial, aligners: Sequence[str], options: Set[str]) -> FrozenTrial:
    """A trial by what its pipeline is made of."""
    used = {stage.name for stage in parse_attack(trial.attack).aligners}
    kept = given.params.keys() & {MERGE, RECOVERY, *options}
    presence: dict[str, BaseDistribution] = dict.fromkeys(aligners, CategoricalDistribution((False, True)))
    return create_trial(
        params={name: name in used for name in aligners} | {name: given.params[name] for name in kept},
        distributions=presence | {name: given.distributions[name] for name in kept},
        value=trial.recovered,
    )


def _detail(name: str, trials: Sequence[FrozenTrial]) -> str:
    """What is good, in words."""
    by_value: dict[object, list[float]] = {}
    for trial in trials:
        if name in trial.params:
            by_value.setdefault(trial.params[name], []).append(trial.values[0])
    if {*by_value} == {False, True}:
        return f"{fmean(by_value[True]):.0%} recovered with it, {fmean(by_value[False]):.0%} without, on average"
    best = max(by_value, key=lambda value: max(by_value[value]))
    shown = f"{best:.3g}" if isinstance(best, float) else best
    return f"{shown} in the strongest that has it"
