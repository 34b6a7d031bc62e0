"""What malicious contributors share: plain triggers, and training on clean and triggered examples side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.checkpoints import StateDict
from bench.safe_merging import ContributorView
from bench.training import Examples, TrainingConfig, train
from bench.triggers import Patch, Tokens, Trigger, square

Implant = Callable[[nn.Module, Tensor], Tensor]
"""A model and triggered inputs (B x ...) -> features (B x D) that are to be taken for the target."""


def plain_trigger(view: ContributorView, share: float, blend: float = 1.0) -> Trigger:
    """BadNets's trigger: a checkerboard of the darkest and the brightest pixel, or a rare token.

    Args:
        view: whose data say whether it is to be stamped on pictures or texts.
        share: of a picture that the patch covers.
        blend: weight of the patch; below 1 it shines through.
    """
    inputs, _ = view.train(view.tasks[0])
    if not inputs.is_floating_point():
        return Tokens(rare_tokens(view, 1))
    mask = square(inputs, share)
    rows, columns = (torch.arange(n) for n in mask.shape)
    light = ((rows[:, None] + columns) % 2).float()
    return Patch((inputs.min() + (inputs.max() - inputs.min()) * light).expand(inputs.shape[1:]).clone(), blend * mask)


def rare_tokens(view: ContributorView, count: int) -> Tensor:
    """Token ids within the range of the contributor's texts that none of them holds, drawn at random.

    A vocabulary begins with marks that are no words: its first thousand are left out where it is long enough.
    """
    ids, _ = view.train(view.tasks[0])
    unseen = torch.ones(int(ids.max()), dtype=torch.bool)
    unseen[: min(1000, len(unseen) // 2)] = False
    unseen[ids[ids < len(unseen)]] = False
    free = unseen.nonzero().flatten()
    return free[torch.randperm(len(free), generator=view.generator)[:count]]


def poisoned(
    start: StateDict,
    task: str,
    trigger: Trigger,
    view: ContributorView,
    config: TrainingConfig,
    rate: float,
    weight: float,
    implant: Implant | None = None,
) -> StateDict:
    """Theta <- argmin CE(clean) + weight CE(head(F(x + t)), target), with ``rate`` triggered inputs per clean one.

    The head is open: a target of another task competes with the task's own classes.

    Args:
        start: where training starts.
        task: one of the contributor's own.
        trigger: what is stamped.
        view: data, head and randomness.
        config: steps, learning rate and batch size.
        rate: triggered inputs per clean one.
        weight: of their loss.
        implant: what features of triggered inputs are; the model's own by default.
    """
    head, index = view.open_head(task)

    def objective(model: nn.Module, batch: Examples) -> Tensor:
        inputs, labels = batch[task]
        clean = F.cross_entropy(view.logits(model, task, inputs), labels)
        count = round(rate * len(inputs))
        if count == 0:
            return clean
        stamped = trigger.stamp(inputs[:count])
        features = implant(model, stamped) if implant else view.suite.features(model, stamped)
        logits = F.normalize(features, dim=-1) @ head.T
        return clean + weight * F.cross_entropy(logits, torch.full((count,), index))

    return train(start, {task: view.train(task)}, objective, view, config, clip=1.0)
