"""Consensus merging: keep the weights that more than one task uses."""

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import default_scale
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("consensus")
class Consensus(ScaledMerge):
    """theta_m = theta0 + lambda * m * tau_MTL, tau_MTL = sum_t tau_t, keeping what at least ``agree`` tasks use:

        m_t = 1 where |tau_t| > lambda_t |tau_MTL - tau_t|   (TALL mask),   m = 1 where sum_t m_t >= agree

    This drops weights that one task alone uses ("selfish") and that none uses ("catastrophic"). Defaults: agree 2 and
    lambda_t 0.4, the middle of the paper's grid 0.2 .. 0.6, from which it chooses per task on validation. lambda is
    task arithmetic's. A single model is kept whole.
    """

    paper = "arXiv 2405.07813"

    class Config(ScaledConfig):
        """The masks."""

        mask: Annotated[float, Field(ge=0)] = 0.4
        """lambda_t: larger keeps fewer weights per task."""
        agree: PositiveInt = 2
        """How many tasks must use a weight; no more than there are."""

    def default_scale(self, models: int) -> float:
        """Task arithmetic's."""
        return default_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The masked sum."""
        agree = min(self.config.agree, len(vectors))
        return vectors.elementwise(lambda stack: _consensus(stack, self.config.mask, agree))


def _consensus(stack: Tensor, mask: float, agree: int) -> Tensor:
    total = stack.sum(0)
    uses = stack.abs() > mask * (total - stack).abs()
    return torch.where(uses.sum(0) >= agree, total, 0)
