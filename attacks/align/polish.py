"""Polish: gradient descent on the symmetry group itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import Align, AttackerView
from mergearena.bench.merging.kernels import default_scale
from mergearena.bench.players.options import BatchSize
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import CostClass
from mergearena.bench.players.tier import Tier
from mergearena.bench.symmetry.architecture import Architecture, Element
from mergearena.bench.symmetry.assignment import assign, similarity
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.heads import AttentionGroup, Gauge

LIMIT = 4.0
"""Largest norm of a generator: condition numbers stay under exp(8) = 3000, where float32 still keeps the function."""


@attacks.aligner("polish", paper="ours; permutations as in Git Re-Basin, arXiv 2209.04836, sec. 3.3")
class Polish(Align):
    """Adam on a group element g = (P, A, B, scales), from the identity: put it after other aligners.

        min_g |g theta_p - theta0|^2                      (``weights``, data-free)
        min_g H(softmax f(theta_m(g), x))                 (``unlabelled``)
        min_g CE(f(theta_m(g), x), y)                     (``labelled``)
        theta_m(g) = theta0 + lambda (g theta_p - theta0 + sum_d tau_d), task arithmetic with the donors

    A = exp(X / sqrt d), B alike and the scales of units and norms are exponentials, so that they stay invertible. Each
    MLP has latent units U, which begin as the released ones; P = argmax_P <P, U U_p^T> is applied, and its gradient
    passes straight through to U. Steps take minibatches; four times on the way the objective is measured on every
    example of the tier and the best element is kept, the identity included: it never ends worse than it began. The
    element is applied to the released weights in float64, so the function is kept. Head order and the residual stream
    stay as they are.
    """

    cost_class = CostClass.TRAINING

    class Config(AttackConfig):
        """What to descend on, how long and how fast."""

        objective: Literal["weights", "unlabelled", "labelled"] = "weights"
        """Distance to the base, or the merge's entropy or cross-entropy over all tasks; the last two set the tier."""
        steps: PositiveInt = 20
        """Gradient steps."""
        lr: PositiveFloat = 0.01
        """Peak step of Adam, relative to the weights' scale; annealed to zero along a cosine."""
        batch_size: BatchSize = 16
        """Examples per task and step; ``weights`` has none."""

    @property
    def tier(self) -> Tier:
        """What the objective needs."""
        return Tier.DATA_FREE if self.config.objective == "weights" else Tier(self.config.objective)

    def align(self, released: StateDict, view: AttackerView) -> StateDict:
        """The best of the elements tried, applied to the released model."""
        config = self.config
        released = balanced(released, view.base, view.architecture)
        data_free, labelled = self.tier is Tier.DATA_FREE, self.tier is Tier.LABELLED
        objective = _Distance(view) if data_free else _MergeLoss(view, labelled, config.batch_size)
        moving = _Moving(released, view.architecture)
        optimizer = torch.optim.Adam(moving.parameters(), lr=config.lr, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        best, lowest = dict(released), objective.judge(released)
        for step in range(1, config.steps + 1):
            optimizer.zero_grad()
            loss = objective.sample(moving.state())
            if not loss.isfinite():
                break
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % max(1, config.steps // 4) == 0 or step == config.steps:
                with torch.no_grad():
                    state = view.architecture.apply(released, moving.element())
                    value = objective.judge(state)
                if value < lowest:
                    best, lowest = state, value
        return best


class _Moving(nn.Module):
    """The free parameters: X of A and B (2 x g x d x d) per attention, log scales, and steps of U per MLP tensor."""

    def __init__(self, released: StateDict, architecture: Architecture) -> None:
        super().__init__()
        self._released, self._architecture = released, architecture
        self._keys = [key for mlp in architecture.mlps for key in mlp.keys]
        self._generators = _zeros((2, a.kv_heads, a.width, a.width) for a in architecture.attentions)
        self._scales = _zeros((scale.width,) for scale in architecture.scales)
        self._norms = _zeros((norm.width,) for norm in architecture.norms)
        self._steps = nn.ParameterList([nn.Parameter(torch.zeros_like(released[key])) for key in self._keys])

    def element(self) -> Element:
        """The present g; gradients reach all but the permutations."""
        found, latent = self._architecture, self._latent()
        with torch.no_grad():
            orders = {mlp.name: assign(similarity(mlp, latent, self._released)).order for mlp in found.mlps}
        return Element(
            orders,
            {group.name: _gauge(group, x) for group, x in zip(found.attentions, self._generators, strict=True)},
            {scale.name: s.clamp(-LIMIT, LIMIT).exp() for scale, s in zip(found.scales, self._scales, strict=True)},
            {norm.name: c.clamp(-LIMIT, LIMIT).exp() for norm, c in zip(found.norms, self._norms, strict=True)},
        )

    def state(self) -> StateDict:
        """The model g theta_p, with gradients to every parameter."""
        moved = self._architecture.apply(self._released, self.element())
        return {**moved, **{key: moved[key] + u - u.detach() for key, u in self._latent().items()}}

    def _latent(self) -> StateDict:
        """U, as tensors."""
        released = {key: self._released[key] for key in self._keys}
        pairs = zip(released.items(), self._steps, strict=True)
        return {key: value + value.square().mean().sqrt() * step for (key, value), step in pairs}


def _zeros(shapes: Iterable[tuple[int, ...]]) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes])


def _gauge(group: AttentionGroup, generators: Tensor) -> Gauge:
    eye = torch.eye(group.width, dtype=generators.dtype)
    # Not from zero: the identity is skipped when it is applied, and would have no gradient.
    x, y = generators / group.width**0.5 + 1e-12 * eye
    # The admissible maps are an algebra with the identity in it (or the identity alone): I + X in it, exp(X) in it.
    x = group.nearest_admissible(eye + x) - eye
    a, b = (torch.matrix_exp(_bounded(z.flatten(1)).view_as(z)) for z in (x, y))
    return Gauge(a, b, torch.arange(group.kv_heads))


def _bounded(rows: Tensor) -> Tensor:
    """Rows no longer than :data:`LIMIT`, longer ones shortened."""
    return rows * (LIMIT / rows.norm(dim=-1, keepdim=True).clamp(min=LIMIT))


class _Distance:
    """|theta - theta0|^2 over the tensors that the group moves."""

    def __init__(self, view: AttackerView) -> None:
        found = view.architecture
        groups = (found.mlps, found.attentions, found.scales, found.norms)
        self._base = {key: view.base[key] for kind in groups for group in kind for key in group.keys}

    def sample(self, aligned: StateDict) -> Tensor:
        return torch.stack([(aligned[key] - base).square().sum() for key, base in self._base.items()]).sum()

    def judge(self, aligned: StateDict) -> float:
        return self.sample(aligned).item()


class _MergeLoss:
    """Mean over tasks of the merge's entropy, or of its cross-entropy where there are labels."""

    def __init__(self, view: AttackerView, labelled: bool, batch_size: int) -> None:
        self._model, self._batch_size, self._generator = _Model(view), batch_size, view.generator
        self._scale = default_scale(1 + len(view.donors))
        floating = {key: base for key, base in view.base.items() if base.is_floating_point()}
        others = {key: sum(donor[key] - base for donor in view.donors.values()) for key, base in floating.items()}
        self._rest = {key: base + self._scale * (others[key] - base) for key, base in floating.items()}
        self._data = {t: view.labelled(t) if labelled else (view.unlabelled(t),) for t in view.tasks}

    def sample(self, aligned: StateDict) -> Tensor:
        """On one minibatch of every task, with gradients."""
        return self._mean(aligned, lambda n: [torch.randint(n, (self._batch_size,), generator=self._generator)])

    @torch.no_grad()
    def judge(self, aligned: StateDict) -> float:
        """On every example."""
        return self._mean(aligned, lambda n: torch.arange(n).split(4 * self._batch_size)).item()

    def _mean(self, aligned: StateDict, batches: Callable[[int], Iterable[Tensor]]) -> Tensor:
        merged = {f"model.{key}": rest + self._scale * aligned[key] for key, rest in self._rest.items()}
        means = []
        for task, (inputs, *labels) in self._data.items():
            losses = [
                _loss(functional_call(self._model, merged, (task, inputs[i])), *(y[i] for y in labels))
                for i in batches(len(inputs))
            ]
            means.append(torch.cat(losses).mean())
        return torch.stack(means).mean()


def _loss(logits_bc: Tensor, labels_b: Tensor | None = None) -> Tensor:
    """Cross-entropy per example, or entropy without labels, B."""
    if labels_b is None:
        return torch.distributions.Categorical(logits=logits_bc).entropy()
    return F.cross_entropy(logits_bc, labels_b, reduction="none")


class _Model(nn.Module):
    """A view's model and heads as one module, for functional calls."""

    def __init__(self, view: AttackerView) -> None:
        super().__init__()
        self.model, self._view = view.model(view.base), view

    def forward(self, task: str, inputs: Tensor) -> Tensor:
        return self._view.logits(self.model, task, inputs)
