"""Subspace Boosting: the small singular values of a merged task vector, lifted to those that carry it."""

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import Share
from mergearena.attacks.merge.spectral import SpectralConfig, SpectralMerge


@attacks.merger("subspace-boosting")
class SubspaceBoosting(SpectralMerge):
    """Per weight matrix, the mean task vector with no singular value below the one at which a share beta is reached:

        1/T sum_t tau_t = U S V^T,   tau_m = U max(S, s_c) V^T,   c = min{k : sum_{i <= k} s_i >= beta sum_i s_i}

    Summed task vectors collapse onto what the tasks share; this gives the directions of single tasks their length
    back. ``beta=0`` lifts all to the largest, ``beta=1`` none. Default 0.01, of the paper's 0, 0.01 and 0.02: next to
    0, so that the merged task vector is several times as long as the mean. The paper chooses lambda on validation; 1
    is ours. Everything that is no matrix is averaged.
    """

    paper = "arXiv 2506.16506"

    class Config(SpectralConfig):
        """Where boosting begins."""

        beta: Share = 0.01
        """Share of the sum of singular values that is left as it is."""

    def combine_matrix(self, stack_toi: Tensor) -> Tensor:
        """Average, decompose, lift."""
        # In float64 as in iso: single precision does not always converge where singular values repeat.
        u, s, vh = torch.linalg.svd(stack_toi.double().mean(0), full_matrices=False)
        return (u * boosted(s, self.config.beta) @ vh).to(stack_toi.dtype)


def boosted(s: Tensor, beta: float) -> Tensor:
    """Singular values (n, descending), none below the one at which ``beta`` of their sum is reached."""
    reached = int((s.cumsum(0) < beta * s.sum()).sum())
    return s.clamp_min(s[min(reached, len(s) - 1)])
