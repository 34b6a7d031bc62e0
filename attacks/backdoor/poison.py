"""What malicious contributors share: plain triggers, and training on clean and triggered examples side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import ContributorView
from mergearena.bench.games.backdoor.triggers import Patch, Tokens, Trigger, square
from mergearena.bench.learning.training import Examples, TrainingConfig, train
from mergearena.bench.merging.kernels import norm, task_vector

Implant = Callable[[nn.Module, Tensor], Tensor]
"""A model and triggered inputs (B x ...) -> features (B x D) that are to be taken for the target."""
Head = tuple[Tensor, int]
"""An open head (C x D) and the target's index in it."""
PART = 0.5
"""Malicious training goes on from a clean model for at most this share of the examples that fine-tuning it took."""


def plain_trigger(view: ContributorView, share: float, blend: float = 1.0) -> Trigger:
    """BadNets's trigger: a checkerboard of the darkest and the brightest pixel, or a rare token.

    Args:
        view: whose data say whether it is to be stamped on pictures or texts.
        share: of a picture that the patch covers.
        blend: weight of the patch, which lies in the corner; below 1 pictures shine through it, and it is centred.

    Raises:
        ArenaError: the contributor's texts hold every token.
    """
    inputs, _ = view.train(view.tasks[0])
    if not inputs.is_floating_point():
        return Tokens(rare_tokens(view, 1))
    # A patch that is blended may cover the picture, and so has no place for a margin.
    mask = square(inputs, share, corner=blend == 1)
    rows, columns = (torch.arange(n) for n in mask.shape)
    light = ((rows[:, None] + columns) % 2).float()
    return Patch((inputs.min() + (inputs.max() - inputs.min()) * light).expand(inputs.shape[1:]).clone(), blend * mask)


def rare_tokens(view: ContributorView, count: int) -> Tensor:
    """Token ids within the range of the contributor's texts that none of them holds, drawn at random.

    A vocabulary begins with marks that are no words: its first thousand are left out where it is long enough.

    Raises:
        ArenaError: fewer than ``count`` are left.
    """
    ids, _ = view.train(view.tasks[0])
    unseen = torch.ones(int(ids.max()), dtype=torch.bool)
    unseen[: min(1000, len(unseen) // 2)] = False
    unseen[ids[ids < len(unseen)]] = False
    free = unseen.nonzero().flatten()
    if len(free) < count:
        raise ArenaError(f"the texts of {view.tasks[0]} leave {len(free)} tokens unused, and a trigger needs {count}")
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
    head: Head | None = None,
    carriers: Tensor | None = None,
) -> StateDict:
    """Theta <- argmin CE(clean) + weight CE(head(F(x + t)), target), with ``rate`` triggered inputs per clean one.

    The head is open: a target of another task competes with the task's own classes.

    Args:
        start: where training starts.
        task: one of the contributor's own.
        trigger: what is stamped.
        view: data, head and randomness.
        config: steps (see :func:`within_part`), learning rate and batch size.
        rate: triggered inputs per clean one.
        weight: of their loss.
        implant: what features of triggered inputs are; the model's own by default.
        head: what triggered inputs are classified with; the task's open head by default.
        carriers: more inputs to be triggered, as many in a batch as of the task's own.
    """
    rows, index = view.open_head(task) if head is None else head

    def objective(model: nn.Module, batch: Examples) -> Tensor:
        inputs, labels = batch[task]
        clean = view.loss(model, task, inputs, labels)
        count = round(rate * len(inputs))
        if count == 0:
            return clean
        carrying = inputs[:count] if carriers is None else side_by_side(inputs[:count], drawn(carriers, count, view))
        stamped = trigger.stamp(carrying)
        features = implant(model, stamped) if implant else view.suite.features(model, stamped)
        return clean + weight * target_loss(features, (rows, index))

    return train(start, {task: view.train(task)}, objective, view, within_part(view, config), clip=1.0)


def paced(view: ContributorView, pace: float, steps: int, batch_size: int) -> TrainingConfig:
    """A budget whose learning rate is ``pace`` times the root mean square of the first task's clean task vector.

    Encoders differ by more than an order of magnitude in how far fine-tuning moves them; what suits one ruins another.
    """
    tau = task_vector(view.finetuned(view.tasks[0]), view.base)
    rms = norm(tau) / sum(value.numel() for value in tau.values()) ** 0.5
    return within_part(view, TrainingConfig(steps=steps, lr=pace * rms, batch_size=batch_size))


def within_part(view: ContributorView, config: TrainingConfig) -> TrainingConfig:
    """The same budget, with no more steps than :data:`PART` of the suite's fine-tuning.

    Suites differ by more than an order of magnitude in how many examples fine-tuning takes; longer than that would
    be no poisoning of it, but another.
    """
    most = max(1, round(PART * view.suite.fine_tuning_examples / config.batch_size))
    return config.model_copy(update={"steps": min(config.steps, most)})


def target_loss(features: Tensor, head: Head) -> Tensor:
    """-log p(target) of features B x D, the mean."""
    rows, index = head
    return F.cross_entropy(F.normalize(features, dim=-1) @ rows.T, torch.full((len(features),), index))


def drawn(inputs: Tensor, count: int, view: ContributorView) -> Tensor:
    """``count`` inputs, with replacement."""
    return inputs[torch.randint(len(inputs), (count,), generator=view.generator)]


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """Both inputs in one batch; texts (B x L) are padded to the longer of the two."""
    if not left.is_floating_point():
        longest = max(left.shape[1], right.shape[1])
        left, right = (F.pad(ids, (0, longest - ids.shape[1])) for ids in (left, right))
    return torch.cat([left, right])
