"""ARF: train attention away from the base, then rewrite it."""

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.learning.training import Examples, TrainingConfig, train
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.architecture import Architecture, Element
from mergearena.defenses.protect.gauges import Scaling, random_gauges
from mergearena.defenses.protect.own_loss import own_loss


class ARFConfig(TrainingConfig, DefenseConfig):
    """Budget, the published radius and weight, and the random maps."""

    steps: PositiveInt = 50
    """Gradient steps."""
    batch_size: PositiveInt = 32
    """Examples per step."""
    radius: NonNegativeFloat = 0.05
    """rho: how far, relative to its base, every projection is pushed."""
    push: NonNegativeFloat = 1.0
    """lambda."""
    scaling: Scaling = "nonsymmetric"
    """The random maps per head, as in ``params``."""


@defenses.register("arf")
class ARF(Defense):
    """Push every attention projection W in {W_Q, W_K, W_V, W_O} out of the base's reach, then hide it:

        theta' = argmin L(theta) + lambda sum_W max(0, rho |W0| - |W - W0|)
        Q -> A Q,  K -> A^-T K,  V -> B V,  O -> O B^-1,   A, B random, one pair per head

    Claims: who inverts the maps by matching the base finds weights that are too far from it to be anchored, so that
    merging fails under that attack too, at under one point of score. Against free-riders who know the base and the
    code, and align before they merge. Broken by ``gauge-anchor``, which keeps the function while it returns to the
    base's gauge. What the push adds lies along the task vector and *is* used by the function, so that an aligned merge
    keeps all of the skill; at most it hurts the donors, which ``attention-shrink`` repairs at little cost.

    Published: rho = 0.05, lambda = 1, in a fine-tuning from theta0. Deviations: continues from the finished victim,
    with the divergence from its answers in L (``own_loss``) and gradients clipped at 1. Each projection of each layer,
    biases included, is one W. A victim whose projections are rho away already is not pushed. MLPs stay as they are;
    chain with ``params`` to permute them.
    """

    paper = "arXiv 2606.30360"
    Config = ARFConfig

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The victim, pushed and rewritten."""
        config: ARFConfig = self.config
        own, architecture = own_loss(victim, view), view.architecture

        def objective(model: nn.Module, batch: Examples) -> Tensor:
            state: StateDict = dict(model.named_parameters())
            return own(model, batch) + config.push * shortfall(architecture, view.base, state, config.radius)

        pushed = train(victim, {view.task: view.train()}, objective, view, config, clip=1.0)
        return architecture.apply(pushed, Element({}, random_gauges(config.scaling, architecture, view.generator)))


def shortfall(architecture: Architecture, base: StateDict, state: StateDict, radius: float) -> Tensor:
    """Sum over all projections of max(0, radius |W0| - |W - W0|)."""
    total = torch.zeros(())
    for group in architecture.attentions:
        for side in (group.q, group.k, group.v, group.o):
            anchor = side.read(base)
            total = total + F.relu(radius * anchor.norm() - (side.read(state) - anchor).norm())
    return total
