"""TIES: trim, elect sign, merge."""

from collections.abc import Mapping

import attacks
from bench.checkpoints import StateDict
from bench.game import AttackerView
from bench.merging import add, elect_and_average, task_vector, trim


@attacks.merger("ties", paper="arXiv 2306.01708, alg. 1")
def ties(
    models: Mapping[str, StateDict], view: AttackerView, *, density: float = 0.2, scale: float | None = None
) -> StateDict:
    """theta_m = theta0 + lambda * tau_m: keep each model's top ``density`` of entries by magnitude, elect the sign of
    larger total mass per entry, average the entries that agree.

    ``scale`` is lambda; null means 1, or 0.3 from eight models on.
    """
    trimmed = [trim(task_vector(state, view.base), density) for state in models.values()]
    return add(view.base, [elect_and_average(trimmed)], ties_scale(len(trimmed)) if scale is None else scale)


def ties_scale(models: int) -> float:
    """TIES's published coefficient."""
    return 1.0 if models < 8 else 0.3
