"""Localize-and-Stitch without data: the largest entries of every task vector, stitched together."""

from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge, Share
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import thresholds, trim
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("localize-and-stitch")
class LocalizeAndStitch(ScaledMerge):
    """theta_m = theta0 + sum_t (m_t / sum_s m_s) * tau_t: each task's region m_t, averaged where regions overlap.

    The dataless version: m_t marks the model's largest ``density`` of |tau_t|, over all tensors. Default 0.1, as in
    the released code for vision; lambda is 1. Entries equal to a threshold are all kept.
    """

    paper = "arXiv 2408.13656, sec. 3"

    class Config(ScaledConfig):
        """The size of the regions."""

        density: Share = 0.1
        """Share of each task vector's entries in its region."""

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """Localize, stitch."""
        limits = thresholds(vectors, round(self.config.density * vectors.size))
        return vectors.elementwise(lambda stack: _stitch(trim(stack, limits)))


def _stitch(stack: Tensor) -> Tensor:
    """The mean over the rows that are not zero."""
    return stack.sum(0).div_(stack.sign_().abs_().sum(0).clamp_min_(1))
