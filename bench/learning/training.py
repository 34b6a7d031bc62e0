"""Gradient descent on a model's weights: the one loop that attacks and defenses share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.players.options import BatchSize
from mergearena.bench.players.player import Config
from mergearena.bench.players.views import View

Examples = Mapping[str, tuple[Tensor, Tensor]]
"""Task -> inputs (n x ...) and targets (n x ...)."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and targets (B x ... each) -> a scalar."""
Objective = Callable[[nn.Module, Examples], Tensor]
"""The model in training and a step's batch of every task -> the scalar to minimise."""


class TrainingConfig(Config):
    """Budget and step size."""

    steps: PositiveInt = 20
    """Gradient steps."""
    lr: PositiveFloat = 1e-4
    """Peak learning rate, annealed to zero along a cosine."""
    batch_size: BatchSize = 16
    """Examples per task and step."""


def train(
    start: StateDict,
    data: Examples,
    objective: Objective,
    view: View,
    config: TrainingConfig,
    clip: float | None = None,
) -> StateDict:
    """Theta <- AdamW(theta, objective(f_theta, batch)), one batch of every task per step, drawn with replacement.

    No weight decay. The model stays in evaluation mode: dropout would draw from a generator that is not the view's,
    and a few examples say too little to move running statistics. Tells ``view.progress`` of every step.

    Args:
        start: where to start; left as it was.
        data: what batches are drawn from.
        objective: of the model and a batch; its own randomness, if any, must be the view's.
        view: gives model and randomness.
        config: steps, learning rate and batch size.
        clip: longest gradient over all parameters together (Euclidean), or None.

    Returns:
        The trained model.
    """
    model = view.model(start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for step in range(config.steps):
        batch = {}
        for task, (inputs, targets) in data.items():
            rows = torch.randint(len(inputs), (config.batch_size,), generator=view.generator)
            batch[task] = inputs[rows], targets[rows]
        optimizer.zero_grad()
        objective(model, batch).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        view.progress(step + 1, config.steps)
    return {key: value.detach() for key, value in model.state_dict().items()}


def mean_over_tasks(loss: Loss, view: View) -> Objective:
    """1/T sum_t loss(f_t(x; theta), y), of what each task reads off the model: in classification, heads are frozen."""

    def objective(model: nn.Module, batch: Examples) -> Tensor:
        total = torch.zeros(())
        for task, (inputs, targets) in batch.items():
            total = total + loss(view.outputs(model, task, inputs), targets) / len(batch)
        return total

    return objective


class At(nn.Module):
    """A module evaluated at other parameters, through which gradients flow to whatever these are computed from.

    ``At(model, {name: theta0[name] + s * (p - theta0[name]) for name, p in model.named_parameters()})`` is the model
    at theta0 + s tau, as a function of the model's own parameters. Parameters that are left out are the module's.
    """

    def __init__(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        """Take the module, which stays as it is, and tensors by parameter name."""
        super().__init__()
        self.module = module
        self.values = dict(parameters)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output."""
        return functional_call(self.module, self.values, args, kwargs)
