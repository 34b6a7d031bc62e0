"""Head matching: undo a shuffle of attention heads, whatever was done inside each head."""

from dataclasses import replace

import torch
from torch import Tensor

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.assignment import assign
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.heads import AttentionGroup, Gauge

Pair = tuple[Tensor, Tensor]
"""Two factors of a circuit L^T R per head: L (g x d x p) and R (g x d x q)."""


@attacks.aligner("head-matching", paper="arXiv 2606.17830; arXiv 2505.22697", cost="algebra")
def head_matching(released: StateDict, view: AttackerView) -> StateDict:
    """Per attention layer, the order of heads whose circuits are most like the base's, by linear assignment:

        order = argmax_order sum_i  cos(C_order(i), C0_i) + cos(D_order(i), D0_i)
        C = [W_Q b_Q]^T W_K,   D = W_V^T W_O   (of a key/value head with all its query heads)

    Q -> A Q, K -> A^-T K, V -> B V, O -> O B^-1 leave C and D unchanged, so it works before and after any aligner of
    gauges. The circuits are never formed: <Q^T K, Q0^T K0> = <Q0 Q^T, K0 K^T>, two d x d matrices. Only whole heads
    move, without arithmetic, so the function is kept exactly.

    Deviations: arXiv 2505.22697 compares the singular values of each projection, which only orthogonal maps keep. The
    biases of K and V are left out: without RoPE softmax does not see the first, and the second may hide in the
    output's bias.
    """
    released = balanced(released, view.base, view.architecture)
    gauges = {}
    for group in view.architecture.attentions:
        gain_gg = head_similarities(group, view.base, released)
        gauges[group.name] = replace(Gauge.identity(group), order=assign(gain_gg).order)
    return view.architecture.apply(released, Element({}, gauges))


def head_similarities(group: AttentionGroup, base: StateDict, released: StateDict) -> Tensor:
    """How alike the circuits of base head i and released head k are, g x g in [-2, 2], float64."""
    (qk0, vo0), (qk, vo) = _circuits(group, base), _circuits(group, released)
    return _cosines(qk0, qk) + _cosines(vo0, vo)


def _circuits(group: AttentionGroup, state: StateDict) -> tuple[Pair, Pair]:
    """The factors of C and D; a key/value head's query heads lie side by side, as they share K and V."""

    def side_by_side(rows_hdr: Tensor) -> Tensor:
        return rows_hdr.double().unflatten(0, (group.kv_heads, -1)).movedim(1, 2).flatten(2)

    q, o = side_by_side(group.q.read(state)), side_by_side(group.o.read(state))
    return (q, group.k.weight.read(state).double()), (o, group.v.weight.read(state).double())


def _cosines(base: Pair, released: Pair) -> Tensor:
    """cos(L0_i^T R0_i, L_k^T R_k) for every i and k, g x g; 0 for a circuit that is zero."""
    crossed = (torch.einsum("iap,kbp->ikab", ours, theirs) for ours, theirs in zip(base, released, strict=True))
    inner_gg = torch.stack(list(crossed)).prod(0).sum((2, 3))
    scale_gg = _norms(base)[:, None] * _norms(released)
    return inner_gg / scale_gg.clamp(min=torch.finfo(torch.float64).tiny)


def _norms(pair: Pair) -> Tensor:
    """|L^T R| per head, g."""
    left, right = pair
    return ((left @ left.mT) * (right @ right.mT)).sum((1, 2)).clamp(min=0).sqrt()
