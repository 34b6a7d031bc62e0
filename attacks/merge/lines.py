"""LiNeS: the deeper a layer, the more of its task vector is added."""

from pydantic import NonNegativeFloat

from mergearena import attacks
from mergearena.attacks.merge.depth import depths
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("lines")
class LiNeS(ScaledMerge):
    """Task arithmetic with a coefficient that grows linearly with depth, block l of L:

        theta_m,l = theta0,l + lambda * (alpha + beta (l - 1) / (L - 1)) sum_t tau_t,l

    Shallow layers are general and suffer from addition, deep ones are the tasks' own. ``alpha`` is 1/T as in the paper,
    so that the first block is averaged; ``beta``, which the paper chooses on validation, is 0.5 (ours); lambda is 1.
    What comes before the blocks goes with the first, what comes after them with the last.
    """

    paper = "arXiv 2410.17146"

    class Config(ScaledConfig):
        """The two ends of the line."""

        alpha: NonNegativeFloat | None = None
        """Coefficient of the first block; null means 1/T."""
        beta: NonNegativeFloat = 0.5
        """How much larger the last block's is."""

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The sum of the task vectors, layer by layer."""
        alpha = 1 / len(vectors) if self.config.alpha is None else self.config.alpha
        depth = depths(view.architecture, view.base)
        blocks = len(view.architecture.mlps)

        def coefficient(key: str) -> float:
            place = min(max(depth[key], 1), blocks)
            return float(alpha + self.config.beta * (place - 1) / max(1, blocks - 1))

        return vectors.map(lambda key, stack: stack.sum(0).mul_(coefficient(key)))
