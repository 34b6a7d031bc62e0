"""TSV-Merge: each task's leading singular vectors, made orthogonal to the others'."""

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.spectral import MapConfig, SpectralMerge


@attacks.merger("tsv")
class TSV(SpectralMerge):
    """Per weight matrix, keep each task's top 1/T singular triplets, side by side, and whiten them jointly:

        tau_t = U_t S_t V_t^T,   U = [U_1 .. U_T],  S = diag(S_1 .. S_T),  V = [V_1 .. V_T]   (top 1/T of each)
        U = P D Q^T,  U_ = P Q^T,  likewise V_   (Procrustes: the nearest matrix with orthonormal columns)
        tau_m = U_ S V_^T

    Everything that is no matrix is averaged. lambda is 1. Triplets of singular value 0 carry nothing and are left
    out, so that a model equal to its base does not disturb the others. The released code takes ``matrices=all``.
    """

    paper = "arXiv 2412.00081, alg. 1"
    Config = MapConfig

    def combine_matrix(self, stack_toi: Tensor) -> Tensor:
        """Decompose, whiten, put together."""
        rank = max(1, min(stack_toi.shape[1:]) // len(stack_toi))
        triplets = [leading(matrix, rank) for matrix in stack_toi]
        u, s, v = (torch.cat(parts, dim=-1) for parts in zip(*triplets, strict=True))
        return nearest_orthonormal(u) * s @ nearest_orthonormal(v).T


def leading(matrix_oi: Tensor, rank: int, beside: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The first ``rank`` singular triplets whose value is not 0: U (o x r), S (r), V (i x r).

    What is 0 is judged against the norm of ``beside``, where the matrix is what was left of that.
    """
    u, s, vh = torch.linalg.svd(matrix_oi, full_matrices=False)
    zero = (matrix_oi if beside is None else beside).norm() * max(matrix_oi.shape) * torch.finfo(s.dtype).eps
    rank = min(rank, int((s > zero).sum()))
    return u[:, :rank], s[:rank], vh[:rank].T


def nearest_orthonormal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values replaced by 1."""
    p, _, qh = torch.linalg.svd(matrix, full_matrices=False)
    return p @ qh
