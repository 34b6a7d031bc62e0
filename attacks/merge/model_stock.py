"""Model Stock: how far to go from the base to the average, from the angle between the models."""

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("model-stock")
class ModelStock(ScaledMerge):
    """Per tensor, between the base and the average of k models, from the angle between their task vectors:

        theta_m = t * mean(theta) + (1 - t) theta0,   t = k cos / ((k - 1) cos + 1)

    cos is the mean cosine over pairs (the paper merges two and assumes equal angles). Models that agree are averaged,
    models at right angles cancel out to the base: the formula is for models of one task. Deviation: a negative cosine
    counts as 0, since extrapolating away from the models is never meant. lambda is 1.
    """

    paper = "arXiv 2403.19522"

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """T times the mean task vector, tensor by tensor."""
        return vectors.map(lambda _, stack: stack.mean(0).mul_(ratio(stack.view(len(stack), -1))))


def ratio(rows: Tensor) -> float:
    """The interpolation ratio t of k task vectors, k x n; a single one gives 1."""
    k = len(rows)
    if k == 1:
        return 1.0
    gram = (rows @ rows.T).double()
    lengths = gram.diagonal().sqrt()
    cosines = gram / lengths.outer(lengths).clamp_min(torch.finfo(torch.float64).tiny)
    cos = ((cosines.sum() - cosines.diagonal().sum()) / (k * (k - 1))).clamp(0, 1).item()
    return k * cos / ((k - 1) * cos + 1)
