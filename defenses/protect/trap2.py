"""Trap2: weights that work where they are, and fail wherever a merge would move them."""

from typing import Annotated, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.learning.training import Examples, TrainingConfig, train
from mergearena.bench.players.player import DefenseConfig
from mergearena.defenses.protect.own_loss import own_loss
from mergearena.defenses.protect.trapped import trapped_loss

NEAR = (0.95, 1.05)
"""Scales too close to 1 to be trapped."""


class Trap2Config(TrainingConfig, DefenseConfig):
    """Budget, the trap's weight and where it lies."""

    steps: PositiveInt = 400
    """Gradient steps, of two model evaluations each until the repair."""
    lr: PositiveFloat = 5e-4
    """Peak learning rate, annealed to zero along a cosine."""
    batch_size: PositiveInt = 32
    """Examples per step; the trap sees the same ones."""
    trap: NonNegativeFloat = 0.5
    """lambda; published: 0.005."""
    low: NonNegativeFloat = 0.3
    """Smallest trapped scale; published: 0.05."""
    high: PositiveFloat = 0.95
    """Largest trapped scale; published: 2."""
    enough: PositiveFloat = 5.0
    """Loss of a batch beyond which the trap pushes no further; published: none."""
    repair: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the steps, the last ones, without the trap; published: 0."""

    @model_validator(mode="after")
    def _some_scale(self) -> Self:
        if max(min(self.high, NEAR[0]) - self.low, self.high - max(self.low, NEAR[1])) <= 0:
            raise ValueError(f"no scale between low and high lies outside {NEAR}; lower low or raise high")
        return self


@defenses.register("trap2")
class Trap2(Defense):
    """Train the task vector tau = theta - theta0 so that only its own length works:

        min L(theta0 + tau) - lambda E_s[w(s) min(L(theta0 + s tau), c)],   w(s) = 1/s,
        s uniform in [low, high] without (0.95, 1.05);  the last steps minimise L alone

    Claims: merging, which scales task vectors, destroys the protected task, while the model alone stays accurate; no
    rewriting of weights is involved, so that there is no symmetry to undo. Against free-riders who merge with common
    coefficients; they know the code, not the draws. Aligners change nothing. Who leaves the victim at s = 1 and scales
    the donors alone gets its skill back, but the trap ruins the donors there. ``victim-first`` stops in between: up to
    a quarter is recovered, and the donors just fail to qualify. Broken with data on images: ``distill`` or ``finetune``
    on the merge recover nearly all.

    Published: lambda 0.005, low 0.05, high 2, no bound c, no repair, gradients clipped at 1 (kept). Deviations: those
    train a whole fine-tuning from theta0; here the finished victim is trained on for 400 steps, after which, with the
    published values, a merge still has all of its skill. A lambda that does more makes the loss run away without c, and
    score comes back in the last steps, without trap. A draw above 1, where few merges are, is missing below it. L
    adds the divergence from the victim's answers (``own_loss``). With half the steps and half the batch the traps
    close as well, but image models lose 4 % of their own score, in the mean.
    """

    paper = "arXiv 2601.21898"
    Config = Trap2Config

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The victim, trained on."""
        config: Trap2Config = self.config
        own = own_loss(victim, view)
        trapped = iter(range(round((1 - config.repair) * config.steps)))

        def objective(model: nn.Module, batch: Examples) -> Tensor:
            loss = own(model, batch)
            if next(trapped, None) is None:
                return loss
            s = random_scale(config.low, config.high, view.generator)
            weights = dict(model.named_parameters())
            return loss - config.trap / s * trapped_loss(model, weights, s, batch, view, config.enough)

        return train(victim, {view.task: view.train()}, objective, view, config, clip=1.0)


def random_scale(low: float, high: float, generator: torch.Generator) -> float:
    """A number uniform in [low, high] without NEAR, which must leave something."""
    below, above = max(0.0, min(high, NEAR[0]) - low), max(0.0, high - max(low, NEAR[1]))
    draw = (below + above) * torch.rand((), generator=generator).item()
    return low + draw if draw < below else high - (below + above - draw)
