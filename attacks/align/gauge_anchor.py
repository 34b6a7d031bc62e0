"""Gauge anchor: undo any invertible rewriting of attention heads, without breaking the function.

Letters: g key/value heads, m query heads for each, d head width, r columns (bias appended).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt
from torch import Tensor

import attacks
from bench.architecture import Element, Gauge
from bench.checkpoints import StateDict
from bench.errors import ArenaWarning
from bench.game import Align, AttackConfig, AttackerView, CostClass

RANK = 1e-7
"""Ratio of a head's weakest to its strongest direction under which it is rank-deficient; float32 holds no less."""


@attacks.aligner("gauge-anchor")
class GaugeAnchor(Align):
    """Per head, the invertible map that brings Q and its partner K nearest to the base's (V and O likewise):

        T = argmin_T |T Q - Q0|^2 + |T^-T K - K0|^2,   Q -> T Q,   K -> T^-T K

    Solving Q and K independently, as the anchor attack does, would land nearer to the base and compute something
    else; T and its inverse compute exactly what the released model does, and absorb whatever invertible map was
    drawn. The start is in closed form, T = Q0 Q^+; ``refine`` then takes Gauss-Newton steps T <- (I + X) T, where X
    solves X QQ^T + KK^T X = (Q0 - Q) Q^T + K (K - K0)^T at the current Q and K, halved until they help. Never
    farther from the base than the closed form.

    Float64, on d x d Gram matrices of the whitened Q, so that their conditioning is not the defense's to choose. Where
    queries are grouped or rotated (RoPE) the Gram matrices are summed over a group and projected onto the maps that
    commute with the rotations, which makes the same equations exact there. A head with rank-deficient rows is solved
    from its partner; where both are, it keeps its gauge and a warning says so.
    """

    paper = "ours; the anchor attack of arXiv 2606.30360 made function-preserving"
    cost_class = CostClass.ALGEBRA

    class Config(AttackConfig):
        """How far to go beyond the closed form."""

        refine: NonNegativeInt = 2
        """Gauss-Newton steps of the joint problem; 0 stops at the closed form."""

    def align(self, released: StateDict, view: AttackerView) -> StateDict:
        """The released model with every head in the base's gauge."""
        gauges, singular = {}, []
        for group in view.architecture.attentions:
            maps = []
            for first, second, admissible in (
                (group.q, group.k, getattr(group, "nearest_admissible", lambda maps: maps)),
                (group.v, group.o, lambda maps: maps),
            ):
                q, k, q0, k0 = (
                    side.read(state).cpu().double().unflatten(0, (group.kv_heads, -1))
                    for state in (released, view.base)
                    for side in (first, second)
                )
                t, solved = nearest_gauge(q, k, q0, k0, self.config.refine, admissible)
                maps.append(t)
                singular += [f"{group.name} head {i}" for i in (~solved).nonzero().flatten().tolist()]
            gauges[group.name] = Gauge(maps[0], maps[1], torch.arange(group.kv_heads))
        if singular:
            shown = ", ".join(singular[:4]) + (", ..." if len(singular) > 4 else "")
            warnings.warn(
                f"gauge-anchor: {len(singular)} rank-deficient heads keep their gauge: {shown}",
                ArenaWarning,
                stacklevel=2,
            )
        return view.architecture.apply(released, Element({}, gauges))


@dataclass
class _Grams:
    """What the problem depends on, g x d x d each: QQ^T, Q0 Q^T, KK^T, K0 K^T, and |Q0|^2 + |K0|^2 (g)."""

    qq: Tensor
    q0q: Tensor
    kk: Tensor
    k0k: Tensor
    constant: Tensor

    def at(self, t: Tensor) -> _Grams:
        """The same after Q -> T Q, K -> T^-T K."""
        s = torch.linalg.inv(t).mT
        return _Grams(t @ self.qq @ t.mT, self.q0q @ t.mT, s @ self.kk @ s.mT, self.k0k @ s.mT, self.constant)

    def distance(self) -> Tensor:
        """|Q - Q0|^2 + |K - K0|^2 per head, g."""
        traces = [_trace(x) for x in (self.qq, self.kk, self.q0q, self.k0k)]
        return self.constant + traces[0] + traces[1] - 2 * (traces[2] + traces[3])


def nearest_gauge(
    q_gmdr: Tensor, k_gmdr: Tensor, q0_gmdr: Tensor, k0_gmdr: Tensor, steps: int, admissible: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The maps T (g x d x d) that bring Q to Q0 and T^-T K to K0, and which heads have one (g, bool).

    ``admissible`` projects g x d x d maps onto the algebra that T must belong to.
    """

    def gram(x: Tensor, y: Tensor) -> Tensor:
        return admissible((x @ y.mT).sum(1))

    # T = (map of the whitened problem) W, with W = L^-1 for Q Q^T = L L^T.
    eye = torch.eye(q_gmdr.shape[2], dtype=q_gmdr.dtype).expand(len(q_gmdr), -1, -1)
    whiten, _ = _whitening(gram(q_gmdr, q_gmdr), eye)
    q_gmdr, k_gmdr = whiten[:, None] @ q_gmdr, torch.linalg.inv(whiten).mT[:, None] @ k_gmdr
    constant = q0_gmdr.square().sum((1, 2, 3)) + k0_gmdr.square().sum((1, 2, 3))
    grams = _Grams(gram(q_gmdr, q_gmdr), gram(q0_gmdr, q_gmdr), gram(k_gmdr, k_gmdr), gram(k0_gmdr, k_gmdr), constant)
    t, distance, solved = _closed_form(grams, eye)
    for _ in range(steps):
        now = grams.at(t)
        x = _sylvester(now.kk, now.qq, now.q0q - now.qq + now.kk - now.k0k.mT)
        better = ~solved
        for halving in range(3):
            t, distance, nearer = _better(grams, t, distance, t + 0.5**halving * x @ t, ~better)
            better |= nearer
            if better.all():
                break
    return t @ whiten, solved


def _closed_form(grams: _Grams, eye: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per head the nearer of T = Q0 Q^+ and T^-T = K0 K^+, its distance, and whether either exists."""
    t, solved = eye, torch.zeros(len(eye), dtype=torch.bool)
    distance = torch.full((len(eye),), torch.inf, dtype=eye.dtype)
    for left, gram, is_partner in ((grams.q0q, grams.qq, False), (grams.k0k, grams.kk, True)):
        root, full_rank = _whitening(gram, eye)
        candidate = left @ root.mT @ root
        inverse, info = torch.linalg.inv_ex(candidate)
        t, distance, nearer = _better(
            grams, t, distance, inverse.mT if is_partner else candidate, full_rank & (info == 0)
        )
        solved |= nearer
    return t, distance, solved


def _better(
    grams: _Grams, t: Tensor, distance: Tensor, candidate: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Per head the candidate where it is usable and nearer, its distance, and where that was."""
    _, info = torch.linalg.inv_ex(candidate)
    usable = usable & (info == 0)
    candidate = torch.where(_at(usable), candidate, t)
    new = grams.at(candidate).distance()
    nearer = usable & (new < distance)  # false for NaN
    return torch.where(_at(nearer), candidate, t), torch.where(nearer, new, distance), nearer


def _whitening(gram: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """L^-1 for gram = L L^T, and whether there is one (g); the identity where not."""
    factor, info = torch.linalg.cholesky_ex(gram)
    spread = factor.diagonal(dim1=-2, dim2=-1)
    good = (info == 0) & (spread.amin(-1) > RANK * spread.amax(-1))
    factor = torch.where(_at(good), factor, eye)
    return torch.linalg.solve_triangular(factor, eye, upper=False), good


def _at(heads: Tensor) -> Tensor:
    """A mask over heads, to choose between g x d x d."""
    return heads[:, None, None]


def _trace(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1).sum(-1)


def _sylvester(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The X with A X + X B = C for symmetric positive semi-definite A and B, by their eigenvectors."""
    (wa, ua), (wb, ub) = torch.linalg.eigh(a), torch.linalg.eigh(b)
    weights = wa[..., :, None] + wb[..., None, :]
    floor = 1e-12 * weights.amax((-2, -1), keepdim=True)
    return ua @ ((ua.mT @ c @ ub) / weights.maximum(floor).clamp(min=torch.finfo(a.dtype).tiny)) @ ub.mT
