"""Anchor: pull every projection of every head onto the base, each on its own."""

import torch
from pydantic import PositiveFloat
from torch import Tensor

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.symmetry.assignment import assign, similarity
from mergearena.bench.symmetry.balance import balanced


@attacks.aligner("anchor", paper="AGA, arXiv 2606.30360", cost="algebra")
def anchor(released: StateDict, view: AttackerView, *, ridge: PositiveFloat = 1e-8) -> StateDict:
    """Per head, ridge least squares of Q, K, V and O *independently* onto the base, in float64:

        T = argmin_T |T X - X0|^2 + r |T|^2 = X0 X^T (X X^T + r I)^-1,   X -> T X,   r = ridge * tr(X X^T) / d

    (X is d x D with the bias appended, O transposed), then per MLP the assignment of hidden units with the largest sum
    of cosines. Two traps come with it. *Independent* solutions for Q and K (V and O) are not each other's inverses, so
    the function breaks by as much as the head's task vector: ``gauge-anchor`` undoes on K what it does to Q. And solved
    for a whole projection, or a head as wide as the model, X is square, T X = X0 whatever X is, and the task vector is
    *erased* (flag ``task-vector-erased``).
    """
    released = balanced(released, view.base, view.architecture)
    moved = dict(released)
    for group in view.architecture.attentions:
        moved.update({key: released[key].clone() for key in group.keys})
        for side in (group.q, group.k, group.v, group.o):
            rows_hdr = side.read(released).double()
            side.write(moved, ridge_map(rows_hdr, side.read(view.base).double(), ridge) @ rows_hdr)
    for mlp in view.architecture.mlps:
        mlp.permute(moved, assign(similarity(mlp, view.base, released, cosine=True)).order)
    return moved


def ridge_map(rows_hdr: Tensor, base_hdr: Tensor, ridge: float) -> Tensor:
    """T per head, h x d x d: the solution of T (X X^T + r I) = X0 X^T."""
    gram_hdd = rows_hdr @ rows_hdr.mT
    size = gram_hdd.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None]
    # A head of zeros has no size; any positive r then gives T = 0, which keeps it zero.
    r = (ridge * size).clamp(min=torch.finfo(torch.float64).tiny)
    eye = torch.eye(gram_hdd.shape[-1], dtype=torch.float64, device=gram_hdd.device)
    return torch.linalg.solve(gram_hdd + r * eye, base_hdr @ rows_hdr.mT, left=False)
