"""Relocate: the victim's function in a network far from the base, at any cost."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch import Tensor

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.learning.training import TrainingConfig, train
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.architecture import exchanged
from mergearena.defenses.protect.gauges import random_orthogonal
from mergearena.defenses.protect.imitation import imitation, split_budget


@defenses.register("relocate")
class Relocate(Defense):
    """Distil the victim into a network whose blocks never were the base's:

        theta = argmin_theta L(theta),   from blocks in reverse order with the units of each MLP mixed, W_in -> G W_in,
                                         W_out -> W_out G^T, G random orthogonal

    L is ``imitation`` of the victim. The start is made of the *base*: none of the victim's weights is in it. Neither
    step keeps the function (the units are not linear): the start answers at random, and what training finds there has
    no gauge in which it is close to the base.

    The reference at the upper end: what resistance costs when it is bought with training. Against everyone who has
    weights only, or unlabelled examples and no use for answers; ``distill`` still learns from the answers.
    """

    paper = "ours"

    class Config(DefenseConfig):
        """Budget."""

        budget: PositiveFloat = 2.0
        """Share of the example passes of fine-tuning the victim from the base."""
        lr: PositiveFloat = 2e-3
        """Peak learning rate at 64 examples per step; proportional to the batch."""

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The distilled network."""
        layers = len(view.architecture.attentions)
        start = exchanged(view.architecture, mixed(view), range(layers)[::-1])
        steps, batch_size = split_budget(self.config.budget, 4 / 3, 70, view)
        budget = TrainingConfig(steps=steps, lr=self.config.lr * batch_size / 64, batch_size=batch_size)
        return train(start, {view.task: view.train()}, imitation(victim, view), view, budget, clip=1.0)


def mixed(view: DefenderView) -> StateDict:
    """The base with the hidden units of every MLP replaced by a random rotation of them."""
    state = dict(view.base)
    for group in view.architecture.mlps:
        rotation = random_orthogonal(group.width, view.generator)
        for axis in group.axes:
            state[axis.key] = _turned(state[axis.key], axis.dim, rotation)
    return state


def _turned(value: Tensor, dim: int, rotation: Tensor) -> Tensor:
    return (rotation @ value.double() if dim == 0 else value.double() @ rotation.T).to(value.dtype)
