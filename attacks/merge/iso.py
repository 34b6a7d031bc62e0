"""Isotropic merging: all singular directions of the summed task vectors count alike."""

from typing import Literal

import torch
from pydantic import ValidationInfo, field_validator
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import Share
from mergearena.attacks.merge.spectral import MapConfig, SpectralMerge
from mergearena.attacks.merge.tsv import leading, nearest_orthonormal
from mergearena.bench.merging.kernels import isotropic


@attacks.merger("iso")
class Iso(SpectralMerge):
    """Per weight matrix, the sum of task vectors with a flat spectrum (Iso-C):

        sum_t tau_t = U S V^T,   tau_m = mean(S) U V^T

    ``variant=cts`` (Iso-CTS) keeps the top ``common`` of those directions, U_c, fills the rest with each task's own,

        tau_t - U_c U_c^T tau_t = U_t S_t V_t^T   (top (1 - common) / T of each),

    makes all of them orthonormal together (Procrustes) and flattens their spectrum (directions of singular value 0 are
    left out). Everything that is no matrix is averaged. lambda is 1.3 (cts: 1.5), what the paper's validation chose for
    eight tasks on ViT-B/32. The released code takes ``matrices=all``.
    """

    paper = "arXiv 2502.04959, alg. 1 and 2"

    class Config(MapConfig):
        """Which subspaces."""

        variant: Literal["c", "cts"] = "c"
        """Iso-C: common directions; Iso-CTS: task-specific ones too."""
        common: Share = 0.8
        """Iso-CTS: share of the directions that are common."""

        @field_validator("common")
        @classmethod
        def _is_used(cls, common: float, info: ValidationInfo) -> float:
            if info.data.get("variant") == "c" and common != 0.8:
                raise ValueError("all directions of Iso-C are common; add variant=cts or leave common out")
            return common

    def default_scale(self, models: int) -> float:
        """The paper's for eight tasks."""
        return 1.3 if self.config.variant == "c" else 1.5

    def combine_matrix(self, stack_toi: Tensor) -> Tensor:
        """Sum, flatten."""
        # In single precision LAPACK's divide and conquer does not always converge where singular values repeat.
        exact = stack_toi.double()
        flat = isotropic(exact.sum(0)) if self.config.variant == "c" else _cts(exact, self.config.common)
        return flat.to(stack_toi.dtype)


def _cts(stack_toi: Tensor, common: float) -> Tensor:
    """T x o x i -> o x i."""
    rank = min(stack_toi.shape[1:])
    own = min(round(rank * (1 - common) / len(stack_toi)), rank // len(stack_toi))
    shared = rank - own * len(stack_toi)
    triplets = [leading(stack_toi.sum(0), shared)]
    basis = triplets[0][0]
    triplets += [leading(matrix - basis @ (basis.T @ matrix), own, beside=matrix) for matrix in stack_toi]
    u, values, v = (torch.cat(parts, dim=-1) for parts in zip(*triplets, strict=True))
    if len(values) == 0:
        return torch.zeros_like(stack_toi[0])
    return values.mean() * (nearest_orthonormal(u) @ nearest_orthonormal(v).T)
