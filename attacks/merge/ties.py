"""TIES: trim, elect sign, merge."""

from typing import Literal

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge, Share
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import ties
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("ties")
class Ties(ScaledMerge):
    """theta_m = theta0 + lambda * tau_m: keep each model's top ``density`` of entries by magnitude, elect the sign of
    larger total mass per entry, average the entries that agree:

        tau~_t = tau_t where |tau_t| is in the model's largest ``density``, else 0
        gamma = sgn(sum_t tau~_t),   tau_m = mean of the tau~_t with sgn(tau~_t) = gamma

    The default lambda is 1, or 0.3 from eight models on. Entries equal to a threshold are all kept. ``per=model`` is
    the paper's, one threshold over all of a model's entries; ``per=tensor`` trims each tensor alone, as mergekit does.
    """

    paper = "arXiv 2306.01708, alg. 1"

    class Config(ScaledConfig):
        """The published density."""

        density: Share = 0.2
        """Share of each task vector's entries that are kept."""
        per: Literal["model", "tensor"] = "model"
        """What the share is of."""

    def default_scale(self, models: int) -> float:
        """1 for a few models, 0.3 for eight."""
        return ties_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """Trim, elect, average."""
        if self.config.per == "model":
            return ties(vectors, self.config.density)
        parts = [ties(tensor, self.config.density) for tensor in vectors.one_by_one()]
        return {key: value for part in parts for key, value in part.items()}


def ties_scale(models: int) -> float:
    """TIES's published coefficient."""
    return 1.0 if models < 8 else 0.3
