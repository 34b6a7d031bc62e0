"""Model Breadcrumbs: drop both tails of every tensor, then add."""

from functools import partial

from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge, Share
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import default_scale, thresholds, trim
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("breadcrumbs")
class Breadcrumbs(ScaledMerge):
    """theta_m = theta0 + lambda * sum_t m_t * tau_t, where m_t hides both tails of each tensor's magnitudes:

        m = 1 where |tau| is among the tensor's largest ``density + gamma``, but not among its largest ``gamma``

    The largest entries are outliers that merges clash over, the smallest are noise. Defaults as in mergekit: density
    0.9, gamma 0.01, hence 9 % of small entries go; if gamma + density exceeds 1, fewer large entries go. Entries
    that equal a threshold stay. lambda is task arithmetic's.
    """

    paper = "arXiv 2312.06795, sec. 3"

    class Config(ScaledConfig):
        """How much of each tensor is kept."""

        density: Share = 0.9
        """Share of entries that are kept."""
        gamma: Share = 0.01
        """Share of entries, the largest, that are dropped."""

    def default_scale(self, models: int) -> float:
        """Task arithmetic's."""
        return default_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The sum of the masked task vectors."""
        combined: StateDict = {}
        for tensor in vectors.one_by_one():
            kept = round(self.config.density * tensor.size)
            outliers = min(round(self.config.gamma * tensor.size), tensor.size - kept)
            low, high = thresholds(tensor, kept + outliers), thresholds(tensor, outliers + 1)
            combined |= tensor.elementwise(partial(_sum_between, low=low, high=high))
        return combined


def _sum_between(stack: Tensor, low: list[float], high: list[float]) -> Tensor:
    """T x c -> c: the sum of what is neither below ``low`` nor above ``high`` in magnitude. Overwrites ``stack``."""
    for row, limit in zip(trim(stack, low), high, strict=True):
        row.mul_(row.abs() <= limit)
    return stack.sum(0)
