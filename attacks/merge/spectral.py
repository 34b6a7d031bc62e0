"""Merges that work on one weight matrix after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Set as AbstractSet
from typing import Literal

from torch import Tensor

from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging import kernels
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.stages import CostClass
from mergearena.bench.players.views import MergingView


class SpectralConfig(ScaledConfig):
    """Config of a merge of matrices."""

    matrices: Literal["all", "map"] = "all"
    """``all``: every tensor of two axes, so embeddings, positions and output projections too; ``map``: those of the
    symmetry map, which belong to MLPs and attention."""


class MapConfig(SpectralConfig):
    """Config of a merge that keeps to the symmetry map unless told otherwise."""

    matrices: Literal["map", "all"] = "map"
    """``map``: those of the symmetry map, which belong to MLPs and attention; ``all``: every tensor of two axes, so
    embeddings, positions and output projections too."""


class SpectralMerge(ScaledMerge):
    """theta_m = theta0 + lambda * combine(tau_1 ... tau_T), matrix by matrix; the rest of a task vector is averaged."""

    cost_class = CostClass.ALGEBRA
    Config = SpectralConfig

    @abstractmethod
    def combine_matrix(self, stack_toi: Tensor) -> Tensor:
        """One matrix of the merged task vector (o x i) of T task vectors (T x o x i), a buffer that is reused."""

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """Every matrix as the method says, the mean of the rest."""
        matrices = self.matrices(view)
        return vectors.map(lambda key, stack: self.combine_matrix(stack) if key in matrices else stack.mean(0))

    def matrices(self, view: MergingView) -> AbstractSet[str]:
        """The tensors that count as matrices."""
        if self.config.matrices == "map":
            return kernels.matrices(view.architecture, view.base)
        return {key for key, value in view.base.items() if value.ndim == 2 and value.is_floating_point()}
