"""DELLA: drop by magnitude at random, elect, fuse."""

from typing import Annotated

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge, Share
from mergearena.attacks.merge.ties import ties_scale
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import elect_and_average
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("della")
class Della(ScaledMerge):
    """Drop small entries more often than large ones, rescale what is left, then elect and average as TIES does:

        p_i = p + w (1 - 2 rank_i / (n - 1)),   tau~_i = m_i tau_i / (1 - p_i),   m_i ~ Bernoulli(1 - p_i)

    where rank_i is 0 for the smallest magnitude of a row of n entries and n - 1 for its largest. The drop rates of a
    row average to p and every entry keeps its expectation. Defaults: p = 0.3, window w = 0.07. lambda is TIES's. A
    vector is one row; a convolution has one row per output channel.
    """

    paper = "arXiv 2406.11617, sec. 3"

    class Config(ScaledConfig):
        """How much is dropped."""

        drop: Annotated[float, Field(ge=0, lt=1)] = 0.3
        """p, the mean probability of dropping an entry."""
        window: Share = Field(default=0.07, validate_default=True)
        """w, how far the probabilities of a row's smallest and largest entry lie from the mean."""

        @field_validator("window")
        @classmethod
        def _fits(cls, window: float, info: ValidationInfo) -> float:
            drop = info.data.get("drop", 0.0)
            if drop - window < 0 or drop + window >= 1:
                raise ValueError(f"drop {drop} +- window must lie in [0, 1); choose a smaller window")
            return window

    def default_scale(self, models: int) -> float:
        """TIES's."""
        return ties_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """Drop, elect, fuse."""
        return vectors.map(lambda _, stack: elect_and_average(self._pruned(stack, view.generator)))

    def _pruned(self, stack: Tensor, generator: torch.Generator) -> Tensor:
        """MAGPRUNE in place: T x shape."""
        rows = stack.view(len(stack), -1) if stack.ndim < 3 else stack.flatten(0, 1).flatten(1)
        drops = drop_rates(rows, self.config.drop, self.config.window)
        kept = torch.rand(rows.shape, generator=generator, dtype=rows.dtype) >= drops
        rows.mul_(kept).div_(1 - drops)
        return stack


def drop_rates(rows: Tensor, drop: float, window: float) -> Tensor:
    """The drop probability of each entry of r x n, from its rank by magnitude within its row."""
    width = rows.shape[1]
    ramp = (
        torch.linspace(drop + window, drop - window, width, dtype=rows.dtype)
        if width > 1
        else rows.new_full((1,), drop)
    )
    return torch.empty_like(rows).scatter_(1, rows.abs().argsort(dim=1), ramp.expand_as(rows))
