"""Measure a suite: zero-shot and fine-tuned scores, and how well plain merges work on it.

Scores are in [0, 1]. ``recovered`` is the share of a task's gap between base and fine-tuned model
that a merged model closes, averaged over the tasks of the merge. Coefficients are chosen on validation,
figures are read on test. These are the plainest merges: they say whether a suite behaves as large models do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging import kernels
from mergearena.bench.merging.kernels import add_task_vector, isotropic
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.suites.base import Split, Suite

Direction = Callable[[TaskVectors], StateDict]
"""Task vectors -> the direction in which the merge moves away from the base, before the coefficient."""

COEFFICIENTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
DEFAULT_COEFFICIENT = 0.8
"""The literature's for two tasks."""


def task_arithmetic(vectors: TaskVectors) -> StateDict:
    """The sum of the task vectors (arXiv 2212.04089)."""
    return vectors.elementwise(lambda stack: stack.sum(0))


def ties(vectors: TaskVectors, density: float = 0.2) -> StateDict:
    """Trim, elect signs, average who agrees (arXiv 2306.01708), times the number of models.

    The factor puts the average on the scale of a sum, so that one grid of coefficients suits both.
    """
    return {key: len(vectors) * value for key, value in kernels.ties(vectors, density).items()}


def iso_c(vectors: TaskVectors) -> StateDict:
    """The sum with the singular values of each matrix replaced by their mean (Iso-C, arXiv 2502.04959).

    Tables of embeddings are not linear maps and keep the plain sum, as vectors do.
    """

    def flatten(key: str, stack: Tensor) -> Tensor:
        total = stack.sum(0)
        return total if total.ndim != 2 or "embedding" in key else isotropic(total)

    return vectors.map(flatten)


DIRECTIONS: Mapping[str, Direction] = {"task_arithmetic": task_arithmetic, "ties": ties, "iso_c": iso_c}


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of a non-empty sequence."""
    return sum(values) / len(values)


class _Meter:
    """Scores of one suite, and the share of the gap that a state closes."""

    def __init__(self, suite: Suite, on_merge: Callable[[], None]) -> None:
        self.suite, self.on_merge = suite, on_merge
        self.base = suite.base()
        self.finetuned = {task: suite.finetuned(task) for task in suite.tasks}
        self.references = {split: self._references(split) for split in ("validation", "test")}

    def _references(self, split: Split) -> dict[str, dict[str, float]]:
        return {
            task: {
                "zero_shot": self.suite.score(self.base, task, split),
                "finetuned": self.suite.score(state, task, split),
            }
            for task, state in self.finetuned.items()
        }

    def vectors(self, tasks: Sequence[str]) -> TaskVectors:
        """The task vectors of some tasks."""
        return TaskVectors([self.finetuned[task] for task in tasks], self.base)

    def recovered(self, state: StateDict, tasks: Sequence[str], split: Split) -> dict[str, float]:
        """Share of the gap closed on each task; 0 where fine-tuning gained nothing."""
        shares = {}
        for task in tasks:
            floor, top = self.references[split][task].values()
            gain = self.suite.score(state, task, split) - floor
            shares[task] = gain / (top - floor) if top > floor else 0.0
        self.on_merge()
        return shares

    def at(self, direction: StateDict, coefficient: float, tasks: Sequence[str], split: Split) -> dict[str, Any]:
        """Figures of one merged model."""
        shares = self.recovered(add_task_vector(self.base, direction, coefficient), tasks, split)
        return {"coefficient": coefficient, "recovered": mean([*shares.values()]), "per_task": shares}

    def best(self, direction: StateDict, coefficients: Sequence[float], tasks: Sequence[str]) -> dict[str, Any]:
        """Test figures at the coefficient with the largest mean recovery on validation."""
        chosen = max(coefficients, key=lambda c: self.at(direction, c, tasks, "validation")["recovered"])
        return self.at(direction, chosen, tasks, "test")

    def pair(self, tasks: tuple[str, str], coefficients: Sequence[float]) -> dict[str, Any]:
        """Task arithmetic on two tasks: best coefficient, the default one, and the average of the weights."""
        direction = task_arithmetic(self.vectors(tasks))
        result = {"best": self.best(direction, coefficients, tasks)}
        for name, coefficient in {"default": DEFAULT_COEFFICIENT, "average": 1 / len(tasks)}.items():
            same = result["best"] if coefficient == result["best"]["coefficient"] else None
            result[name] = same or self.at(direction, coefficient, tasks, "test")
        return result


def measure(
    suite: Suite,
    coefficients: Sequence[float] = COEFFICIENTS,
    directions: Mapping[str, Direction] = DIRECTIONS,
    on_merge: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """All figures of a suite.

    Args:
        suite: base, fine-tuned models, heads and splits.
        coefficients: the grid that validation chooses from.
        directions: methods for the merge of all tasks; pairs are merged by task arithmetic only.
        on_merge: called after each merged model that was evaluated.

    Returns:
        ``tasks`` (zero-shot and fine-tuned test score), ``pairs`` (``best``, ``default`` and ``average``
        of every two tasks), ``all_tasks`` (one merge of everything per method) and ``summary``; all floats.
    """
    meter = _Meter(suite, on_merge)
    names = tuple(suite.tasks)
    pairs = {f"{a}+{b}": meter.pair((a, b), coefficients) for a, b in combinations(names, 2)}
    vectors = meter.vectors(names)
    everything = {name: meter.best(find(vectors), coefficients, names) for name, find in directions.items()}
    everything["average"] = meter.at(task_arithmetic(vectors), 1 / len(names), names, "test")
    rows = meter.references["test"].values()
    summary = {
        "zero_shot": mean([row["zero_shot"] for row in rows]),
        "finetuned": mean([row["finetuned"] for row in rows]),
        "smallest_gain": min(row["finetuned"] - row["zero_shot"] for row in rows),
        **{
            f"pairs_{how}": mean([p[how]["recovered"] for p in pairs.values()])
            for how in ("best", "default", "average")
        },
        "all_tasks_best": max(row["recovered"] for row in everything.values()),
    }
    return {"summary": summary, "tasks": meter.references["test"], "pairs": pairs, "all_tasks": everything}
