"""Moat: a model that only works with its blocks out of the base's order, and a way back that is trapped."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.learning.training import Examples, TrainingConfig, train
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.architecture import exchanged
from mergearena.defenses.protect.imitation import imitation, split_budget
from mergearena.defenses.protect.trapped import trapped_loss


@defenses.register("moat")
class Moat(Defense):
    """Exchange neighbouring blocks, train the victim back to what it was, and trap every way to undo the exchange:

        theta = argmin L(x theta) - lambda E_s[min(CE(theta0 + s (theta - theta0)), c)],   s uniform in [low, high]

    x exchanges the attention layers and MLPs 0 and 1, 2 and 3, ... (so x x = 1); L is ``imitation`` of the victim's
    labels, answers and features, with hints between the pairs; the released model is x theta. Training starts at the
    victim, in the base's order.

    Why it holds: as released, no block stands where the base has it, so that a merge mixes unrelated weights: it
    fails for victim and donors alike. An exchange is no symmetry, so no aligner that keeps the function undoes it. Who
    knows this code puts the blocks back (``block-matching``) and is in the base's order again, where the same weights
    were trained to fail, at full length (s = 1) as on the way to it. Trap2 cannot do that: there s = 1 must work.

    Threat model: against free-riders who know the base and this code and have weights only, or unlabelled examples too.
    Not against ``distill``, which needs answers alone, nor against fine-tuning on labels.

    Budget: ``budget`` of one fine-tuning of the victim, in passes through the model; the teacher's and the trap's are
    counted. It is split into batches and steps that grow alike.
    """

    paper = "ours"

    class Config(DefenseConfig):
        """Budget and trap."""

        budget: PositiveFloat = 0.95
        """Share of the example passes of fine-tuning the victim from the base."""
        lr: PositiveFloat = 1.4e-3
        """Peak learning rate at 64 examples per step; proportional to the batch."""
        trap: NonNegativeFloat = 0.5
        """lambda."""
        every: PositiveInt = 4
        """Steps from one trap to the next."""
        low: NonNegativeFloat = 0.2
        """Least trapped coefficient s."""
        high: PositiveFloat = 1.1
        """Greatest trapped coefficient s."""
        enough: PositiveFloat = 3.0
        """c: the cross-entropy of a batch beyond which the trap pushes no further, in nats."""

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The model whose blocks are out of order."""
        config: Moat.Config = self.config
        order = neighbours(len(view.architecture.attentions))
        copy = imitation(victim, view, hints=range(2, len(order), 2))
        steps, batch_size = split_budget(config.budget, 4 / 3 + 1 / config.every, 60, view)
        countdown = iter(range(steps))

        def objective(model: nn.Module, batch: Examples) -> Tensor:
            loss = copy(model, batch)
            if next(countdown) % config.every:
                return loss
            s = config.low + (config.high - config.low) * torch.rand((), generator=view.generator).item()
            back = exchanged(view.architecture, dict(model.named_parameters()), order)
            return loss - config.trap * trapped_loss(model, back, s, batch, view, config.enough)

        budget = TrainingConfig(steps=steps, lr=config.lr * batch_size / 64, batch_size=batch_size)
        start = exchanged(view.architecture, victim, order)
        return train(start, {view.task: view.train()}, objective, view, budget, clip=1.0)


def neighbours(layers: int) -> list[int]:
    """1, 0, 3, 2, ...: neighbours exchanged, the last of an odd number left alone."""
    return [i ^ 1 if i ^ 1 < layers else i for i in range(layers)]
