"""DARE: drop and rescale, then merge."""

from collections.abc import Mapping
from typing import Literal

import attacks
from attacks.merge.ties import ties_scale
from bench.checkpoints import StateDict
from bench.game import AttackerView
from bench.merging import add, default_scale, drop_and_rescale, elect_and_average, task_vector, trim


@attacks.merger("dare", paper="arXiv 2311.03099, eq. 2")
def dare(
    models: Mapping[str, StateDict],
    view: AttackerView,
    *,
    drop: float = 0.5,
    then: Literal["linear", "ties"] = "linear",
    density: float = 0.2,
    scale: float | None = None,
) -> StateDict:
    """tau~ = (m * tau) / (1 - p), m ~ Bernoulli(1 - p) per entry, then task arithmetic (``then=linear``) or TIES.

    ``density`` is TIES's; ``scale`` null means the published coefficient of the merge that follows.
    """
    vectors = [drop_and_rescale(task_vector(state, view.base), drop, view.generator) for state in models.values()]
    if then == "linear":
        return add(view.base, vectors, default_scale(len(vectors)) if scale is None else scale)
    elected = elect_and_average([trim(vector, density) for vector in vectors])
    return add(view.base, [elected], ties_scale(len(vectors)) if scale is None else scale)
