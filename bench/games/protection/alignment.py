"""How a pipeline runs an aligner: once as it is, and once more in double precision where numbers failed it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mergearena.bench.errors import RankWarning
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import Align, AttackerView
from mergearena.bench.players.stages import CostClass
from mergearena.bench.symmetry.assignment import NotFinite
from mergearena.bench.symmetry.balance import balanced

_RUNS_NO_MODEL = (CostClass.ELEMENTWISE, CostClass.ALGEBRA)


def aligned(aligner: Align, state: StateDict, view: AttackerView) -> StateDict:
    """The model that the aligner makes, in the dtypes of ``state``.

    An aligner that ends in NaN or infinity, in a matrix that cannot be inverted, or with a :class:`RankWarning`, gets
    the same model once more with every channel balanced and, unless it runs the model, in float64. If that ends no
    better, what it made first stands, with its warnings or its error.
    """
    first = _Trial(aligner, state, view)
    trial = first if first.sound else _again(aligner, state, view)
    best = trial if trial.sound else first
    for warning in best.warnings:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if best.error is not None:
        raise best.error
    return best.result


class _Trial:
    """What came of running an aligner."""

    def __init__(self, aligner: Align, state: StateDict, view: AttackerView) -> None:
        self.result: StateDict = {}
        self.error: Exception | None = None
        with warnings.catch_warnings(record=True) as self.warnings:
            warnings.simplefilter("always")
            try:
                self.result = aligner.align(state, view)
            except (torch.linalg.LinAlgError, NotFinite) as error:
                self.error = error
        self.sound = (
            self.error is None
            and not any(issubclass(warning.category, RankWarning) for warning in self.warnings)
            and _finite(self.result, state)
        )


def _again(aligner: Align, state: StateDict, view: AttackerView) -> _Trial:
    """The same model, balanced and in float64."""
    state = balanced(state, view.base, view.architecture)
    if aligner.cost_class not in _RUNS_NO_MODEL:
        return _Trial(aligner, state, view)
    donors = {task: _double(donor) for task, donor in view.donors.items()}
    wide = replace(view, base=_double(view.base), donors=donors, released=_double(view.released))
    trial = _Trial(aligner, _double(state), wide)
    trial.result = {key: value.to(state[key].dtype) if key in state else value for key, value in trial.result.items()}
    trial.sound = trial.sound and _finite(trial.result, state)
    return trial


def _finite(result: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> bool:
    """Whether all that is new is finite."""
    return all(value is before.get(key) or bool(value.isfinite().all()) for key, value in result.items())


def _double(state: Mapping[str, Tensor]) -> StateDict:
    return {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
