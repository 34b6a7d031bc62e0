"""DOGE: one change to all task vectors, so that they disturb each other less outside of what they share."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.spectral import SpectralConfig, SpectralMerge
from mergearena.attacks.merge.tsv import leading
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import default_scale
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("doge")
class DOGE(SpectralMerge):
    """Per weight matrix, tau_m = sum_i lambda_i top(tau_i + D), where D is optimised without data:

        min_D sum_j |tau_j * sum_{i != j} lambda_i (tau_i + D)|^2   (entry by entry),   gradients in the complement of U

    An entry that moved far for task j is one to which j is sensitive: there, the rest is to cancel. U (out x k) spans
    what the tasks share: the leading left singular vectors of their top 1/T singular directions, k a ``subspace``-th of
    the rank. lambda_i = mean_j |tau_j| / |tau_i| makes the tasks equally long in each tensor; top keeps the largest
    ``density`` of each tensor's entries. Other tensors take D = 0. Published: subspace 6, density 0.3.

    Ours: the objective is our reading of the paper's; steps of steepest descent with exact line search in place of
    Adam's; and lambda, task arithmetic's, in place of the paper's lambda_i = 0.07 / |tau_i|, a length of one model's.
    """

    paper = "arXiv 2501.01230"

    class Config(SpectralConfig):
        """The published constants."""

        subspace: PositiveInt = 6
        """The shared subspace has that fraction of a matrix's rank."""
        density: Annotated[float, Field(gt=0, le=1)] = 0.3
        """Share of each tensor's entries that are kept."""
        steps: NonNegativeInt = 100
        """Steps of descent."""

    def default_scale(self, models: int) -> float:
        """Task arithmetic's."""
        return default_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The balanced, changed and trimmed sum."""
        matrices = self.matrices(view)

        def merged(key: str, stack: Tensor) -> Tensor:
            return self.combine_matrix(stack) if key in matrices else _trimmed_sum(stack, self.config.density)

        return vectors.map(merged)

    def combine_matrix(self, stack_toi: Tensor) -> Tensor:
        """One matrix of the merged task vector."""
        taus = stack_toi.double()
        basis = shared(taus, self.config.subspace)
        return _trimmed_sum(stack_toi, self.config.density, change(taus, balance(taus), basis, self.config.steps))


def balance(taus: Tensor) -> Tensor:
    """lambda_i (T) of T x shape; 0 for a task vector that is 0."""
    lengths = taus.view(len(taus), -1).norm(dim=1)
    return torch.where(lengths > 0, lengths.mean() / lengths, 0)


def shared(taus_toi: Tensor, fraction: int) -> Tensor:
    """U (o x k): what the leading left singular directions of T x o x i have in common."""
    rank = min(taus_toi.shape[1:])
    directions = torch.cat([leading(tau, max(1, rank // len(taus_toi)))[0] for tau in taus_toi], dim=1)
    return torch.linalg.svd(directions, full_matrices=False).U[:, : rank // fraction]


def change(taus_toi: Tensor, weights: Tensor, basis_ok: Tensor, steps: int) -> Tensor:
    """D (o x i), from 0, by descent in the complement of ``basis_ok``."""
    weighted = weights[:, None, None] * taus_toi
    others_toi, share = weighted.sum(0) - weighted, (weights.sum() - weights)[:, None, None]
    # The objective's gradient is 2 (slope + curvature * D).
    slope = (share * taus_toi.square() * others_toi).sum(0)
    curvature = (share * taus_toi).square().sum(0)
    changed = torch.zeros_like(slope)
    for _ in range(steps):
        gradient = slope + curvature * changed
        gradient = gradient - basis_ok @ (basis_ok.mT @ gradient)
        bend = (curvature * gradient.square()).sum()
        if bend == 0:
            break
        changed -= gradient.square().sum() / bend * gradient
    return changed


def _trimmed_sum(stack: Tensor, density: float, changed: Tensor | None = None) -> Tensor:
    """sum_i lambda_i top(tau_i + D) of T x shape."""
    taus = stack.double()
    rows = (taus if changed is None else taus + changed).view(len(taus), -1)
    kept = max(1, round(density * rows.shape[1]))
    limits = rows.abs().kthvalue(rows.shape[1] - kept + 1, dim=1, keepdim=True).values
    trimmed = rows * (rows.abs() >= limits) * balance(taus)[:, None]
    return trimmed.sum(0).view(stack.shape[1:]).to(stack.dtype)
