"""Merges with a coefficient: a merged task vector, added to the base as far as is good."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from bench.checkpoints import StateDict
from bench.game import AttackConfig, AttackerView, Merge, Tier
from bench.merging import TaskVectors, add_task_vector

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of entries, or a probability."""
GRID = tuple(round(0.1 * i, 1) for i in range(1, 16))
"""Candidates for one coefficient for all models."""
PER_MODEL_GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5)
"""Candidates for each model's own coefficient."""


class ScaledConfig(AttackConfig):
    """Config of a merge with a coefficient."""

    scale: float | Literal["chosen", "per-model"] | None = None
    """lambda; null means the published default. ``chosen``: the best of 0.1 .. 1.5 on the labelled examples;
    ``per-model``: then one coefficient per task vector, chosen in turn (both play in the tier ``labelled``)."""


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
    def combine(self, vectors: TaskVectors, view: AttackerView) -> StateDict:
        """The merged task vector at lambda = 1."""

    def merge(self, models: Mapping[str, StateDict], view: AttackerView) -> StateDict:
        """The merged model. ``models``: task -> aligned victim or donor, the victim first."""
        states = list(models.values())
        combined = self.combine(TaskVectors(states, view.base), view)
        scale = self.config.scale
        if not isinstance(scale, str):
            return add_task_vector(view.base, combined, self.default_scale(len(states)) if scale is None else scale)
        best = max(GRID, key=lambda c: skill(add_task_vector(view.base, combined, c), view))
        if scale == "chosen":
            return add_task_vector(view.base, combined, best)
        weights = self._per_model([best] * len(states), states, view)
        return self._weighted(weights, states, view)

    def _weighted(self, weights: Sequence[float], states: Sequence[StateDict], view: AttackerView) -> StateDict:
        return add_task_vector(view.base, self.combine(TaskVectors(states, view.base, weights), view), 1.0)

    def _per_model(
        self, weights: list[float], states: Sequence[StateDict], view: AttackerView, passes: int = 2
    ) -> list[float]:
        """Coordinate search: each model's coefficient in turn, the others held, until a pass changes nothing."""
        for _ in range(passes):
            before = list(weights)
            for i in range(len(weights)):
                candidates = [
                    [*weights[:i], c, *weights[i + 1 :]] for c in dict.fromkeys([weights[i], *PER_MODEL_GRID])
                ]
                weights = max(candidates, key=lambda w: skill(self._weighted(w, states, view), view))
            if weights == before:
                break
        return weights


@torch.inference_mode()
def skill(state: StateDict, view: AttackerView) -> tuple[float, float]:
    """(mean accuracy, -mean cross-entropy) over the tasks on the tier's labelled examples; compared in that order."""
    accuracy = loss = 0.0
    for task in view.tasks:
        inputs, labels = view.labelled(task)
        logits = view.suite.predict(state, task, inputs)
        accuracy += (logits.argmax(-1) == labels).double().mean().item() / len(view.tasks)
        loss += F.cross_entropy(logits, labels).item() / len(view.tasks)
    return accuracy, -loss
