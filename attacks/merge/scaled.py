"""Merges with a coefficient: a merged task vector, added to the base as far as is good."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import add_task_vector
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.options import Searched
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import Merge
from mergearena.bench.players.tier import Tier
from mergearena.bench.players.views import MergingView

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of entries, or a probability."""
Weights = tuple[float, ...]
"""Merge coefficients: one for all models, or one per model."""

COARSE = (0.2, 0.5, 0.8, 1.1, 1.4)
"""Where the search for one coefficient starts, beside the published one."""
STEPS = (0.3, 0.1)
"""Steps of the search for one coefficient per model; the last is the resolution of every search."""


class ScaledConfig(AttackConfig):
    """Config of a merge with a coefficient."""

    scale: Annotated[float | Literal["chosen", "per-model"] | None, Searched(0.1, 2.0)] = None
    """lambda; null means the published default. ``chosen``: the one that does best on the labelled examples, to 0.1;
    ``per-model``: from there one coefficient per task vector (both play in the tier ``labelled``)."""


class ScaledMerge(Merge):
    """theta_m = theta0 + lambda * combine(tau_1 ... tau_T).

    ``combine`` should be homogeneous, combine(c tau) = c combine(tau), so that coefficients per model, which scale the
    task vectors before they are combined, contain the single coefficient as the case where all are equal.
    """

    Config = ScaledConfig

    @property
    def tier(self) -> Tier:
        """Labelled where coefficients are chosen."""
        return Tier.LABELLED if isinstance(self.config.scale, str) else self.base_tier

    def default_scale(self, models: int) -> float:
        """The published coefficient for that many models."""
        return 1.0

    @abstractmethod
    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The merged task vector at lambda = 1."""

    def merge(self, models: Mapping[str, StateDict], view: MergingView) -> StateDict:
        """The merged model. ``models``: task -> aligned victim or donor, the victim first."""
        states, scale = list(models.values()), self.config.scale
        default = self.default_scale(len(states))
        if not isinstance(scale, str):
            combined = self.combine(TaskVectors(states, view.base), view)
            return add_task_vector(view.base, combined, default if scale is None else scale)

        # A merge that draws at random must draw the same for every candidate: else the luckiest draw would win.
        draw = view.generator.get_state()
        combined = self.combine(TaskVectors(states, view.base), view)

        def together(weights: Weights) -> StateDict:
            return add_task_vector(view.base, combined, weights[0])

        def apart(weights: Weights) -> StateDict:
            view.generator.set_state(draw)
            return add_task_vector(view.base, self.combine(TaskVectors(states, view.base, weights), view), 1.0)

        search = Search(together, view)
        best = search.climb(max([(default,), *((c,) for c in COARSE)], key=search.score), STEPS[-1])
        if scale == "chosen":
            return together(best)
        search = Search(apart, view)
        weights = best * len(states)
        for step in STEPS:
            weights = search.climb(weights, step)
        return apart(weights)


class Search:
    """Coordinate ascent over merge coefficients, which scores each candidate once."""

    def __init__(self, build: Callable[[Weights], StateDict], view: MergingView) -> None:
        """Take what builds the merged model of some coefficients, and the view whose examples score it."""
        self.build = build
        self.view = view
        self.scores: dict[Weights, tuple[float, float]] = {}

    def score(self, weights: Weights) -> tuple[float, float]:
        """:func:`skill` of the merged model."""
        if weights not in self.scores:
            self.scores[weights] = skill(self.build(weights), self.view)
        return self.scores[weights]

    def climb(self, weights: Weights, step: float) -> Weights:
        """Move one coefficient after another by ``step`` while that helps; coefficients stay at 0 or above.

        Returns:
            Coefficients no worse than those given, which no single move improves.
        """
        while True:
            start = weights
            for i in range(len(weights)):
                for move in (step, -step):
                    while self.score(moved := _moved(weights, i, move)) > self.score(weights):
                        weights = moved
            if weights == start:
                return weights


def _moved(weights: Weights, index: int, move: float) -> Weights:
    # Rounded, so that the same place reached by another way is not scored again.
    return (*weights[:index], max(0.0, round(weights[index] + move, 6)), *weights[index + 1 :])


def skill(state: StateDict, view: MergingView) -> tuple[float, float]:
    """(mean score, -mean loss) over the tasks on the tier's labelled examples; compared in that order."""
    score = loss = 0.0
    for task in view.tasks:
        found = view.suite.assess(state, task, *view.labelled(task))
        score += found.score / len(view.tasks)
        loss += found.loss / len(view.tasks)
    return score, -loss
