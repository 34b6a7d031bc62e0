"""MagMax: per entry, the largest change wins."""

from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("magmax")
class MagMax(ScaledMerge):
    """theta_m = theta0 + lambda * tau_m: every entry is that of the task vector which moved it furthest,

        tau_m = tau_k,   k = argmax_t |tau_t|     (entry by entry)

    The default lambda is 0.5, as in the released code. Made for models that were fine-tuned one after the other; here,
    as for all merges, each comes from the base. Of equal magnitudes the first model's is taken.
    """

    paper = "arXiv 2407.06322"

    def default_scale(self, models: int) -> float:
        """The released code's."""
        return 0.5

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The entry of largest magnitude."""
        return vectors.elementwise(largest)


def largest(stack: Tensor) -> Tensor:
    """T x c -> c: per column, the entry of largest magnitude."""
    return stack.gather(0, stack.abs().argmax(0, keepdim=True)).squeeze(0)
