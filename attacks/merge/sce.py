"""SCE: select what differs, calculate coefficients, erase minorities."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("sce")
class SCE(ScaledMerge):
    """Per tensor, in three steps:

        select:     tau~_t = m * tau_t, m the tensor's largest ``density`` of entries by variance over the models
        calculate:  eta_t = |tau~_t|^2 / sum_s |tau~_s|^2
        erase:      tau_m = the mean of the tau~_t with sgn(tau~_t) = sgn(sum_s tau~_s), weighted by eta_t

    Default density 0.1, lambda 1. Entries whose variance equals the threshold are all kept, so that models which do not
    differ, or a single one, are kept whole. The mean over what is left is mergekit's reading.
    """

    paper = "arXiv 2408.07990"

    class Config(ScaledConfig):
        """What is selected."""

        density: Annotated[float, Field(gt=0, le=1)] = 0.1
        """Share of each tensor's entries that are kept."""

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """Select, calculate, erase."""
        return vectors.map(
            lambda _, stack: _fused(stack.view(len(stack), -1), self.config.density).view(stack.shape[1:])
        )


def _fused(stack: Tensor, density: float) -> Tensor:
    """T x n -> n, of one tensor. Overwrites ``stack``."""
    variance = stack.var(0, correction=0)
    kept = max(1, round(density * variance.numel()))
    stack.mul_(variance >= variance.kthvalue(variance.numel() - kept + 1).values)
    squares = stack.square().sum(1, keepdim=True)
    eta = squares / squares.sum().clamp_min(torch.finfo(stack.dtype).tiny)
    weights = eta * (stack.sign() == stack.sum(0).sign())
    return (weights * stack).sum(0) / weights.sum(0).clamp_min(torch.finfo(stack.dtype).tiny)
