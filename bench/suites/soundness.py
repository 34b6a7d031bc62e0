"""Whether a suite's models can be played with: looked at once, before anything is, so that no player is blamed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import torch

from mergearena.bench.errors import ArenaWarning, BadCheckpoint
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.base import Assessment, Suite

_PROBES = 4
"""Random inputs that every model is run on."""


def check(suite: Suite, tasks: Iterable[str]) -> None:
    """Check the base and the models of these tasks: whether they fit the suite's architecture, are finite, have tied
    weights that are equal, and answer in finite numbers.

    A model of another floating-point precision than the base's is played in the base's, and a warning says so.

    Raises:
        BadCheckpoint: one is not sound; the message names suite, model, tensor and remedy.
    """
    tasks, base = tuple(tasks), suite.base()
    with suite.borrowed() as model:
        layout = model.state_dict()
        who = _named(suite, "base", "the base")
        checkpoints.preflight(checkpoints.cast(base, layout), layout, who, _REMEDY)
    _check_use(suite, tasks[:1], base, who)
    for task in tasks:
        stored = suite.finetuned(task)
        state, who = checkpoints.cast(stored, base), _named(suite, task, f"the model of {task!r}")
        checkpoints.preflight(state, base, who, _REMEDY)
        _check_use(suite, (task,), state, who)
        other = {str(stored[key].dtype) for key in base if stored[key].dtype != base[key].dtype}
        if other:
            warnings.warn(
                f"{who} is stored in {', '.join(sorted(other))}, the base is not: it is played in the base's precision",
                ArenaWarning,
                stacklevel=2,
            )


def finite(found: Assessment, task: str, who: str) -> float:
    """The score of a model on a task, by whose answers it was found.

    Raises:
        BadCheckpoint: an answer is not finite, which the loss shows: such a model is no result.
    """
    if not math.isfinite(found.loss):
        raise BadCheckpoint(
            f"{who}: answers NaN or infinity on {task!r}; keep its weights in a range that it can run in"
        )
    return found.score


def _check_use(suite: Suite, tasks: Iterable[str], state: StateDict, who: str) -> None:
    """Whether tied weights are equal, and answers to random inputs finite."""
    for key, first in suite.ties.items():
        if not torch.equal(state[key], state[first]):
            raise BadCheckpoint(f"{who} has two values of one tensor, {first!r} and {key!r}, which are tied; {_REMEDY}")
    for task in tasks:
        probes = suite.probes(_PROBES, torch.Generator().manual_seed(0))
        if not suite.predict(state, task, probes).isfinite().all():
            raise BadCheckpoint(f"{who} answers NaN or infinity to random inputs of {task!r}; {_REMEDY}")


def _named(suite: Suite, file: str, what: str) -> str:
    """A model, its suite and, where it is known, its file."""
    path = suite.zoo / f"{file}.safetensors"
    return f"suite {suite.name!r}: {what}{f' ({path})' if path.is_file() else ''}"


_REMEDY = "mend that model, or build the suite's models anew (mergearena zoo build)"
