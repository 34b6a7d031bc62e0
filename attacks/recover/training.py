"""Gradient descent on every task's examples: what fine-tuning, distillation and the baselines share."""

from collections.abc import Callable, Mapping

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from bench.checkpoints import StateDict
from bench.game import AttackConfig, AttackerView

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (B x C) and targets (B, or B x C) -> a scalar."""


class TrainingConfig(AttackConfig):
    """Budget and step size."""

    steps: PositiveInt = 20
    """Gradient steps."""
    lr: PositiveFloat = 1e-4
    """Peak learning rate, annealed to zero along a cosine."""
    batch_size: PositiveInt = 16
    """Examples per task and step."""
    k: PositiveInt | None = None
    """Read at most that many examples of each task; null reads all that the tier gives."""


def train(
    start: StateDict,
    data: Mapping[str, tuple[Tensor, Tensor]],
    loss: Loss,
    view: AttackerView,
    config: TrainingConfig,
) -> StateDict:
    """Theta <- AdamW(theta, 1/T sum_t loss(head_t(f_theta(x)), y)), one batch of every task per step, heads frozen.

    The model stays in evaluation mode: dropout would draw from a generator that is not the view's, and a few
    examples say too little to move running statistics.

    Args:
        start: where to start; left as it was.
        data: task -> inputs (k x ...) and their targets (k x ...).
        loss: of a batch.
        view: gives model, heads and randomness.
        config: steps, learning rate and batch size.

    Returns:
        The trained model.
    """
    model = view.model(start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for _ in range(config.steps):
        total = torch.zeros(())
        for task, (inputs, targets) in data.items():
            batch = torch.randint(len(inputs), (config.batch_size,), generator=view.generator)
            total = total + loss(view.logits(model, task, inputs[batch]), targets[batch]) / len(data)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
    return {key: value.detach() for key, value in model.state_dict().items()}
