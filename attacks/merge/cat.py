"""CAT merging: cut from every task vector what would move the outputs of the other tasks."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.attacks.merge.regmean import gram_matrices
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import add_task_vector, default_scale
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("cat", paper="arXiv 2505.06977", tier="unlabelled", cost="forward")
def cat(
    models: Mapping[str, StateDict],
    view: MergingView,
    *,
    scale: float | None = None,
    directions: NonNegativeInt = 2,
    tradeoff: NonNegativeFloat = 1.0,
    examples: PositiveInt = 3,
) -> StateDict:
    """Task arithmetic, after every other task's removal basis B_k has been projected out of a linear layer's tau_i:

        tau~_i = tau_i - B_k B_k^T tau_i   for every k != i,   tau: out x in
        B_k = top ``directions`` eigenvectors of sum_{i != k} tau_i (G_k - mu G_i) tau_i^T,   G_k = X_k^T X_k

    those output directions in which the others move task k's outputs most and lose least of their own; directions of
    negative gain are not cut. X_k are the layer's inputs in model k over ``examples`` unlabelled inputs of its task,
    three as in the paper. theta_m = theta0 + ``scale`` sum_i tau~_i, by default task arithmetic's. Ours: ``directions``
    and mu, ``tradeoff``, whose published values are not known here; tensors that are no linear layer's weight are
    summed whole, where the paper masks scales and shifts of norms.
    """
    seen = limited(view, examples)
    grams = [gram_matrices(state, task, seen.unlabelled(task), view) for task, state in models.items()]

    def trimmed(key: str, stack: Tensor) -> Tensor:
        if key not in grams[0]:
            return stack.sum(0)
        return without_conflicts(stack, [g[key] for g in grams], directions, tradeoff)

    vectors = TaskVectors(list(models.values()), view.base)
    weight = default_scale(len(models)) if scale is None else scale
    return add_task_vector(view.base, vectors.map(trimmed), weight)


def without_conflicts(stack_toi: Tensor, grams_ii: Sequence[Tensor], directions: int, tradeoff: float) -> Tensor:
    """The sum (o x i) of T trimmed task vectors (T x o x i) of a layer, from T Gram matrices of its inputs (i x i)."""
    taus, tasks = stack_toi.double(), range(len(stack_toi))
    bases = []
    for k in tasks:
        gain_oo = taus.new_zeros(taus.shape[1], taus.shape[1])
        for i in tasks:
            if i != k:
                gain_oo += taus[i] @ (grams_ii[k] - tradeoff * grams_ii[i]) @ taus[i].mT
        bases.append(removal_basis(gain_oo, directions))
    total = torch.zeros_like(taus[0])
    for i in tasks:
        kept = taus[i]
        for basis in (bases[k] for k in tasks if k != i):
            kept = kept - basis @ (basis.mT @ kept)
        total += kept
    return total.to(stack_toi.dtype)


def removal_basis(gain_oo: Tensor, directions: int) -> Tensor:
    """The eigenvectors of the largest eigenvalues, at most ``directions``, positive ones only: o x c."""
    values, vectors = torch.linalg.eigh(gain_oo)
    chosen = min(directions, int((values > 0).sum()))
    return vectors[:, len(values) - chosen :]
