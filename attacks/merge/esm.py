"""ESM: merged in the subspaces of what task vectors do to outputs, instead of what they are."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.attacks.merge.regmean import gram_matrices
from mergearena.attacks.merge.tsv import nearest_orthonormal
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import add_task_vector
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("esm", paper="arXiv 2602.20208", tier="unlabelled", cost="forward")
def esm(
    models: Mapping[str, StateDict], view: MergingView, *, examples: PositiveInt = 32, scale: float = 1.0
) -> StateDict:
    """Per linear layer, each task vector projected onto the directions in which it moves the layer's outputs most:

        X_t tau_t^T = the shift of outputs,   P_t = its top 1/T principal directions   (out x k)
        P = [P_1 .. P_T],  A = [P_1^T tau_1; ..; P_T^T tau_T],   tau_m = P_ A,  P_ the nearest orthonormal to P

    X_t are the layer's inputs in model t over ``examples`` unlabelled inputs of its own task. ``tsv`` does the same
    with singular directions, which do not know which inputs occur. theta_m = theta0 + ``scale`` tau_m. Principal
    directions are those of uncentred second moments, so that a constant shift counts. Everything that is no linear
    layer's weight is averaged.

    Left out: the paper's polarized scaling of tasks, directions and layers by their norms.
    """
    seen = limited(view, examples)
    grams = [gram_matrices(state, task, seen.unlabelled(task), view) for task, state in models.items()]

    def merged(key: str, stack: Tensor) -> Tensor:
        return essential(stack, [g[key] for g in grams]) if key in grams[0] else stack.mean(0)

    vectors = TaskVectors(list(models.values()), view.base)
    return add_task_vector(view.base, vectors.map(merged), scale)


def essential(stack_toi: Tensor, grams_ii: Sequence[Tensor]) -> Tensor:
    """One layer's merged task vector (o x i) of T task vectors (T x o x i) and T Gram matrices of inputs (i x i)."""
    exact = stack_toi.double()
    rank = max(1, exact.shape[1] // len(exact))
    directions = [principal(tau @ gram @ tau.mT, rank) for tau, gram in zip(exact, grams_ii, strict=True)]
    content = torch.cat([p_ok.mT @ tau for p_ok, tau in zip(directions, exact, strict=True)])
    return (nearest_orthonormal(torch.cat(directions, dim=1)) @ content).to(stack_toi.dtype)


def principal(moments_oo: Tensor, rank: int) -> Tensor:
    """The eigenvectors of the ``rank`` largest eigenvalues that are not 0: o x k."""
    values, vectors = torch.linalg.eigh(moments_oo)
    zero = values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
    kept = min(rank, int((values > zero).sum()))
    return vectors[:, len(values) - kept :]
