"""Averaging of parameters."""

from collections.abc import Mapping

import attacks
from bench import merging
from bench.checkpoints import StateDict
from bench.game import MergingView


@attacks.merger("average", paper="model soups, arXiv 2203.05482")
def average(models: Mapping[str, StateDict], view: MergingView) -> StateDict:
    """The mean of the models' parameters: theta_m = 1/T sum_t theta_t."""
    return merging.average(list(models.values()))
