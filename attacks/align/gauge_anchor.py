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

from mergearena import attacks
from mergearena.bench.errors import RankWarning
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import Align, AttackerView
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import CostClass
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.heads import Gauge

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

        refine: NonNegativeInt = 1
        """Gauss-Newton steps of the joint problem; 0 stops at the closed form."""

    def align(self, released: StateDict, view: AttackerView) -> StateDict:
        """The released model with every head in the base's gauge."""
        released = balanced(released, view.base, view.architecture)
        gauges, singular = {}, []
        for group in view.architecture.attentions:
            maps = []
            for first, second, admissible in (
                (group.q, group.k, group.nearest_admissible),
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
                RankWarning,
                stacklevel=2,
            )
        return view.architecture.apply(released, Element({}, gauges))


def nearest_gauge(
    q_gmdr: Tensor, k_gmdr: Tensor, q0_gmdr: Tensor, k0_gmdr: Tensor, steps: int, admissible: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The maps T (g x d x d) that bring Q to Q0 and T^-T K to K0, and which heads have one (g, bool).

    ``admissible`` projects g x d x d maps onto the algebra that T must belong to.
    """

    def gram(x: Tensor, y: Tensor) -> Tensor:
        return admissible((x @ y.mT).sum(1))

    # Q Q^T = L L^T: solved for L^-1 Q and L^T K, whose map is T L.
    factor, root, _ = _whitening(gram(q_gmdr, q_gmdr))
    q_gmdr, k_gmdr = root[:, None] @ q_gmdr, factor.mT[:, None] @ k_gmdr
    problem = _Problem(gram(q_gmdr, q_gmdr), gram(q0_gmdr, q_gmdr), gram(k_gmdr, k_gmdr), gram(k0_gmdr, k_gmdr))
    best = problem.closed_form()
    solved = best.distance.isfinite()
    for _ in range(steps):
        step, better = problem.gauss_newton(best) @ best.t, ~solved
        for halving in range(3):
            nearer, best = best.nearest(problem.at(best.t + 0.5**halving * step, ~better))
            better |= nearer
            if better.all():
                break
    return best.t @ root, solved


@dataclass
class _Solution:
    """Maps T and S = T^-T (g x d x d each), and |T Q - Q0|^2 + |S K - K0|^2 up to a constant (g)."""

    t: Tensor
    s: Tensor
    distance: Tensor

    def nearest(self, other: _Solution) -> tuple[Tensor, _Solution]:
        """Per head whether the other is nearer, and the nearer of the two."""
        nearer = other.distance < self.distance  # false for NaN
        pick = nearer[:, None, None]
        t, s = torch.where(pick, other.t, self.t), torch.where(pick, other.s, self.s)
        return nearer, _Solution(t, s, torch.where(nearer, other.distance, self.distance))


@dataclass
class _Problem:
    """What the problem depends on: QQ^T, Q0 Q^T, KK^T, K0 K^T, each g x d x d."""

    qq: Tensor
    q0q: Tensor
    kk: Tensor
    k0k: Tensor

    def at(self, t: Tensor, usable: Tensor) -> _Solution:
        """The solution with maps T, infinitely far where T is not usable or not invertible."""
        inverse, info = torch.linalg.inv_ex(t)
        return self._measured(t, inverse.mT, usable & (info == 0))

    def _measured(self, t: Tensor, s: Tensor, usable: Tensor) -> _Solution:
        distance = ((t @ self.qq - 2 * self.q0q) * t + (s @ self.kk - 2 * self.k0k) * s).sum((1, 2))
        return _Solution(t, s, torch.where(usable, distance, torch.inf))

    def closed_form(self) -> _Solution:
        """Per head the nearer of T = Q0 Q^+ and S = K0 K^+; the identity, infinitely far, where neither exists."""
        eye = torch.eye(self.qq.shape[-1], dtype=self.qq.dtype).expand_as(self.qq)
        best = _Solution(eye, eye, torch.full((len(eye),), torch.inf, dtype=eye.dtype))
        _, root, full_rank = _whitening(self.qq)
        _, best = best.nearest(self.at(self.q0q @ root.mT @ root, full_rank))
        _, root, full_rank = _whitening(self.kk)
        s = self.k0k @ root.mT @ root
        inverse, info = torch.linalg.inv_ex(s)
        _, best = best.nearest(self._measured(inverse.mT, s, full_rank & (info == 0)))
        return best

    def gauss_newton(self, at: _Solution) -> Tensor:
        """The X of the class's docstring; by eigenvectors of the two symmetric matrices (a Sylvester equation)."""
        qq, kk = at.t @ self.qq @ at.t.mT, at.s @ self.kk @ at.s.mT
        right = self.q0q @ at.t.mT - qq + kk - at.s @ self.k0k.mT
        (wk, uk), (wq, uq) = torch.linalg.eigh(kk), torch.linalg.eigh(qq)
        weights = wk[..., :, None] + wq[..., None, :]
        floor = 1e-12 * weights.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        return uk @ ((uk.mT @ right @ uq) / weights.maximum(floor)) @ uq.mT


def _whitening(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L and L^-1 for gram = L L^T, and whether there are such (g); the identity where not."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype).expand_as(gram)
    factor, info = torch.linalg.cholesky_ex(gram)
    spread = factor.diagonal(dim1=-2, dim2=-1)
    full_rank = (info == 0) & (spread.amin(-1) > RANK * spread.amax(-1))
    factor = torch.where(full_rank[:, None, None], factor, eye)
    return factor, torch.linalg.solve_triangular(factor, eye, upper=False), full_rank
