"""Victim first: task arithmetic that leaves the victim nearly its own length."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import NonNegativeFloat

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import add_task_vector, default_scale
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.options import Searched
from mergearena.bench.players.views import MergingView


@attacks.merger("victim-first", paper="ours, against arXiv 2601.21898")
def victim_first(
    models: Mapping[str, StateDict],
    view: MergingView,
    *,
    scale: Annotated[NonNegativeFloat, Searched(0.1, 2.0)] = 0.85,
    donors: Annotated[NonNegativeFloat | None, Searched(0.1, 2.0)] = None,
) -> StateDict:
    """Task arithmetic with a coefficient of its own for the victim, and without data:

        theta_m = theta0 + s tau_v + lambda sum_d tau_d

    A defense that trains the victim to fail at s < 1 leaves it whole at ``scale`` s = 1, so that it is the donors'
    coefficient lambda, ``donors``, that must balance the two; null means task arithmetic's published one. Near s = 1
    the victim's skill is back, but its trap costs the donors theirs: the default s stops about where they do not
    qualify any more. After ``transplant``, which leaves the trap behind, s = 1 and lambda = 1.5 keep both. With labels,
    ``task-arithmetic(scale=per-model)`` finds all coefficients.
    """
    weight = default_scale(len(models)) if donors is None else donors
    weights = [scale, *[weight] * (len(models) - 1)]
    vectors = TaskVectors(list(models.values()), view.base, weights)
    return add_task_vector(view.base, vectors.elementwise(lambda stack: stack.sum(0)), 1.0)
