"""Rotation matching: undo orthogonal maps of attention heads."""

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.heads import Gauge


@attacks.aligner("rotation-matching", paper="arXiv 2502.00264", cost="algebra")
def rotation_matching(released: StateDict, view: AttackerView) -> StateDict:
    """Per head, the rotation of Q and K together that lands nearest to the base (orthogonal Procrustes):

        R = argmin_{R^T R = I} |R Q - Q0|^2 + |R K - K0|^2 = U V^T,   U S V^T = svd(Q0 Q^T + K0 K^T)

    and the same for V with O, biases appended to Q, K and V. The function is kept, since R^-T = R. It cannot undo
    scaling: a head that was rescaled is only turned, and its lengths stay as they were released. Deviations: the
    paper's optional common scale per head is left to ``scale-normalization``; where queries are rotated (RoPE) the
    matrix is first projected onto the maps that commute with the rotations, which makes R the optimum among those.
    """
    released = balanced(released, view.base, view.architecture)
    gauges = {}
    for group in view.architecture.attentions:
        q, k, v, o = (
            _outer(side.read(view.base), side.read(released), group.kv_heads)
            for side in (group.q, group.k, group.v, group.o)
        )
        gauges[group.name] = Gauge(
            nearest_rotation(group.nearest_admissible(q + k)), nearest_rotation(v + o), torch.arange(group.kv_heads)
        )
    return view.architecture.apply(released, Element({}, gauges))


def nearest_rotation(outer_gdd: Tensor) -> Tensor:
    """The orthogonal R with the largest <R, M> for each M of a batch, g x d x d.

    Where M is singular R is not unique; a trace of the identity in M picks the one that turns least.
    """
    size = torch.linalg.matrix_norm(outer_gdd)[:, None, None].clamp(min=torch.finfo(torch.float64).tiny)
    eye = torch.eye(outer_gdd.shape[-1], dtype=outer_gdd.dtype, device=outer_gdd.device)
    u, _, vh = torch.linalg.svd(outer_gdd / size + 1e-12 * eye)
    return u @ vh


def _outer(base_hdr: Tensor, rows_hdr: Tensor, kv_heads: int) -> Tensor:
    """X0 X^T summed over the query heads of each key/value head, g x d x d, float64."""
    return (base_hdr.double() @ rows_hdr.double().mT).unflatten(0, (kv_heads, -1)).sum(1)
