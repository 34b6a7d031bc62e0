"""Task arithmetic."""

from collections.abc import Mapping

import attacks
from bench.checkpoints import StateDict
from bench.game import AttackerView
from bench.merging import add, default_scale, task_vector


@attacks.merger("task-arithmetic", paper="arXiv 2212.04089, sec. 4")
def task_arithmetic(models: Mapping[str, StateDict], view: AttackerView, *, scale: float | None = None) -> StateDict:
    """theta_m = theta0 + lambda * sum_t tau_t. ``scale`` is lambda; null means 0.8 for up to three models, else 0.3."""
    vectors = [task_vector(state, view.base) for state in models.values()]
    return add(view.base, vectors, default_scale(len(vectors)) if scale is None else scale)
