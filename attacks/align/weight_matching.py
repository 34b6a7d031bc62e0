"""Weight matching: undo permutations of hidden units."""

from typing import Literal

import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, from_numpy

import attacks
from bench.checkpoints import StateDict
from bench.game import AttackerView


@attacks.aligner("weight-matching", paper="Git Re-Basin, arXiv 2209.04836, eq. 2", cost="algebra")
def weight_matching(
    released: StateDict, view: AttackerView, *, similarity: Literal["raw", "cosine"] = "raw"
) -> StateDict:
    """Per MLP, the permutation P of hidden units that brings the released model nearest to the base:

        P = argmax_P  <W0_fc, P W_fc> + <b0, P b> + <W0_proj, W_proj P^T>

    A linear assignment on the units' similarities, exact in one pass since a transformer's MLPs share no
    hidden axis. ``similarity=cosine`` normalises every unit first, which no rescaling of units can fool.
    """
    moved = dict(released)
    for group in view.architecture.mlps:
        base_nf, released_nf = group.units(view.base), group.units(released)
        if similarity == "cosine":
            base_nf, released_nf = F.normalize(base_nf), F.normalize(released_nf)
        group.permute(moved, best_order(base_nf @ released_nf.T))
    return moved


def best_order(gain_nn: Tensor) -> Tensor:
    """The order (n, int64) with the largest total gain, where ``gain[i, j]`` is for unit j moving to place i."""
    _, order = linear_sum_assignment(gain_nn.double().numpy(), maximize=True)
    return from_numpy(order)
