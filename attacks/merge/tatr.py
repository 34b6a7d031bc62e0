"""Task arithmetic in the trust region: leave alone what other tasks are sensitive to."""

from collections.abc import Iterator

from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge, Share
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import default_scale
from mergearena.bench.merging.selection import kth_largest
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("tatr")
class TATR(ScaledMerge):
    """theta_m = theta0 + lambda * m * sum_t tau_t, where m drops the entries by which tasks disturb each other most:

        Omega = sum_{i != j} |g_i| |tau_j|,   m = 0 on the largest ``conflict`` of Omega, over all tensors

    g_i is the gradient of task i's loss at theta0. Here as in the paper's form without data: |g_i| = |tau_i|, since a
    task vector is the sum of its gradients. Default 1 %; lambda is task arithmetic's. Entries equal to the threshold
    are all kept.
    """

    paper = "arXiv 2501.15065"

    class Config(ScaledConfig):
        """What is dropped."""

        conflict: Share = 0.01
        """Share of entries that are dropped."""

    def default_scale(self, models: int) -> float:
        """Task arithmetic's."""
        return default_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The sum inside the trust region."""
        dropped = round(self.config.conflict * vectors.size)

        def conflicts(stride: int) -> Iterator[Tensor]:
            return map(lambda stack: conflict(stack)[None], vectors.pieces(stride))

        limit = kth_largest(conflicts, 1, vectors.size, dropped + 1)[0]
        return vectors.elementwise(lambda stack: stack.sum(0).mul_(conflict(stack) <= limit))


def conflict(stack: Tensor) -> Tensor:
    """T x c -> c: sum_{i != j} |tau_i| |tau_j|."""
    sizes = stack.abs()
    return sizes.sum(0).square_().sub_(sizes.square().sum(0))
