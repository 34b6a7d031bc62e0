"""PCB merging: parameters compete, within their task and across tasks."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import thresholds
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("pcb")
class PCB(ScaledMerge):
    """Weigh every entry by how much it matters to its task (intra) and how far the others agree (inter):

        beta_t = exp(T s_t^2) * tanh(tau_t * sum_j tau_j),   s_t = |tau_t| / max |tau_t|
        beta^_t = beta_t's largest ``density``, mapped onto [0, 1];   the rest 0
        theta_m = theta0 + lambda * (sum_t beta^_t * tau_t) / (sum_t beta^_t)

    exp and tanh are the released code's forms of the paper's two softmaxes, whose denominators cancel. Magnitudes are
    clipped to all but their largest 1e-4 first, so that no outlier sets the scale; the released code clips the smallest
    1e-4 too, which are next to 0. Defaults: density 0.05, lambda 1.2 (vision).
    """

    paper = "arXiv 2410.02396, sec. 3"

    class Config(ScaledConfig):
        """What wins."""

        density: Annotated[float, Field(gt=0, le=1)] = 0.05
        """Share of each task vector's entries that win."""

    def default_scale(self, models: int) -> float:
        """The published 1.2."""
        return 1.2

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """Compete, drop, rescale."""
        size = vectors.size

        def column(limits: list[float]) -> Tensor:
            return torch.tensor(limits, dtype=torch.float64)[:, None]

        tops = column(thresholds(vectors, int(1e-4 * size) + 1))
        lowest = column(
            thresholds(vectors, max(1, round(self.config.density * size)), of=lambda x: competition(x, tops))
        )
        highest = column(thresholds(vectors, 1, of=lambda x: competition(x, tops)))
        return vectors.elementwise(lambda stack: _balanced(stack, tops, lowest, highest))


def competition(stack: Tensor, tops: Tensor) -> Tensor:
    """beta, T x c, of T x c entries whose magnitudes are clipped at ``tops`` (T x 1)."""
    tops = tops.to(stack)
    share = stack.abs().minimum(tops).div_(tops.clamp_min(torch.finfo(stack.dtype).tiny))
    return share.square_().mul_(len(stack)).exp_().mul_((stack * stack.sum(0)).tanh_())


def _balanced(stack: Tensor, tops: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """The weighted mean; a task whose winners all tie weighs them alike."""
    lowest, highest = lowest.to(stack), highest.to(stack)
    beta, spread = competition(stack, tops), highest - lowest
    weight = torch.where(spread > 0, (beta - lowest).clamp_min(0) / spread, (beta >= lowest).to(stack))
    clipped = stack.clamp(-tops.to(stack), tops.to(stack))
    return (weight * clipped).sum(0) / weight.sum(0).clamp_min(1e-12)
