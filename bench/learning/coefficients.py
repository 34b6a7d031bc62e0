"""Learned merge coefficients (AdaMerging, arXiv 2310.02575): what attacks and defenses share of it.

Letters: T models, L floating-point tensors of a model, B inputs, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.learning.training import At
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import View

Data = Mapping[str, tuple[Tensor, ...]]
"""Task -> inputs (n x ...), and whatever else belongs to each of them: labels, or nothing."""
Objective = Callable[[nn.Module, Data], Tensor]
"""A model and a batch of every task -> the scalar to minimise."""


class Blend:
    """Merged weights as a differentiable function of coefficients and of a mask:

    theta = theta0 + m * sum_t lambda_tl tau_tl,   per tensor l; no mask is a mask of ones.
    """

    def __init__(self, models: Sequence[StateDict], base: StateDict) -> None:
        """Take T models and their base; keeps their task vectors in memory."""
        self.base, self.count = base, len(models)
        vectors = TaskVectors(models, base)
        self.tau = {key: vectors.stacked(key).reshape(self.count, -1).clone() for key in vectors.keys}

    def coefficients(self, value: float, per_tensor: bool = True) -> Tensor:
        """All coefficients equal: T x L, or T x 1 for one per model."""
        return torch.full((self.count, len(self.tau) if per_tensor else 1), value)

    def weights(self, lambda_tl: Tensor, mask: StateDict | None = None) -> StateDict:
        """The merged floating-point tensors, in the base's dtypes, through which gradients flow.

        Args:
            lambda_tl: coefficients T x L, or T x 1.
            mask: one factor per entry of every floating-point tensor.
        """
        columns = lambda_tl.expand(-1, len(self.tau)).unbind(1)
        merged = {}
        for (key, tau), column in zip(self.tau.items(), columns, strict=True):
            base = self.base[key]
            total = (column.to(tau.dtype) @ tau).view(base.shape)
            merged[key] = (base + (total if mask is None else total * mask[key])).to(base.dtype)
        return merged

    def state(self, lambda_tl: Tensor, mask: StateDict | None = None) -> StateDict:
        """The merged model; tensors of integers are the base's."""
        with torch.no_grad():
            return {**self.base, **self.weights(lambda_tl, mask)}


def learned(
    blend: Blend,
    lambda_tl: Tensor,
    data: Data,
    objective: Objective,
    view: View,
    steps: int,
    lr: float,
    batch_size: int,
    mask: StateDict | None = None,
) -> Tensor:
    """Coefficients (T x L, or T x 1) after Adam on an objective, one batch of every task per step, from ``lambda_tl``.

    Args:
        blend: of the models that are merged.
        lambda_tl: where to start; left as it was.
        data: what batches are drawn from, with replacement.
        objective: of the merged model and a batch, :func:`entropies` for AdaMerging.
        view: gives module, heads and randomness.
        steps: of Adam.
        lr: of Adam.
        batch_size: examples per task and step.
        mask: stays as it is.
    """
    model = view.model(blend.base).requires_grad_(False)
    lambda_tl = lambda_tl.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([lambda_tl], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(At(model, blend.weights(lambda_tl, mask)), batch(data, batch_size, view.generator)).backward()
        optimizer.step()
    return lambda_tl.detach()


def batch(data: Data, size: int, generator: torch.Generator) -> Data:
    """``size`` examples of every task, drawn with replacement."""
    rows = {task: torch.randint(len(parts[0]), (size,), generator=generator) for task, parts in data.items()}
    return {task: tuple(part[rows[task]] for part in parts) for task, parts in data.items()}


def entropies(view: View) -> Objective:
    """sum_t mean_x H(softmax(head_t(f(x)))), which needs no labels (AdaMerging, eq. 5)."""

    def objective(model: nn.Module, examples: Data) -> Tensor:
        losses = [entropy(view.logits(model, task, inputs)) for task, (inputs, *_) in examples.items()]
        return torch.stack(losses).sum()

    return objective


def task_losses(view: View) -> Objective:
    """sum_t of the suite's loss (in classification, mean_x CE(head_t(f(x)), y)), of examples with targets."""

    def objective(model: nn.Module, examples: Data) -> Tensor:
        losses = [view.loss(model, task, x, y) for task, (x, y) in examples.items()]
        return torch.stack(losses).sum()

    return objective


def entropy(logits: Tensor) -> Tensor:
    """The mean entropy, in nats, of predictions given as logits B x C."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()
