"""Averaging of parameters."""

from collections.abc import Mapping

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging import kernels
from mergearena.bench.players.views import MergingView


@attacks.merger("average", paper="model soups, arXiv 2203.05482")
def average(models: Mapping[str, StateDict], view: MergingView) -> StateDict:
    """The mean of the models' parameters: theta_m = 1/T sum_t theta_t."""
    return kernels.average(list(models.values()))
