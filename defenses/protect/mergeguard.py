"""MergeGuard: spread a task over the layers, then take its largest entries back."""

from itertools import groupby
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.learning.training import Examples, TrainingConfig, train
from mergearena.bench.merging.kernels import task_vector, thresholds
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.player import DefenseConfig
from mergearena.defenses.protect.own_loss import own_loss

Share = Annotated[float, Field(ge=0, le=1)]


class MergeGuardConfig(TrainingConfig, DefenseConfig):
    """Budget and the published shares."""

    steps: PositiveInt = 50
    """Gradient steps of the first stage."""
    batch_size: PositiveInt = 32
    """Examples per step."""
    stage: Literal[1, 2, "both"] = "both"
    """Which of the two stages is played."""
    alpha: NonNegativeFloat = 0.01
    """Weight of the squared parameters."""
    critical: Share = 0.1
    """k': share of entries in layers that stay as they are, the critical ones."""
    taken: Share = 0.1
    """k: share of the other layers' entries that are taken back."""
    beta: NonNegativeFloat = 1.0
    """How far they are taken back: 1 leaves the base's value."""


@defenses.register("mergeguard")
class MergeGuard(Defense):
    """Two stages; tau' = theta' - theta0 is the task vector after the first:

        theta' = argmin L(theta) + alpha sum_l |theta^(l)|^2
        theta_p = theta' - beta M * tau',   M = 1 on the largest |tau'| outside critical layers, else 0

    M is 1 on k (1 - k') of all entries. The first stage spreads what was learned over the layers, the second disturbs
    it where it is largest, so that little of it survives another model's task vector.

    Claims: merging then loses much of the protected task (up to six sevenths of its score, elsewhere a third), at
    up to 4.4 points of the model's own. Against free-riders who merge the weights as they are. What is taken back is
    missing alone too: *not* function-preserving. No symmetry is used, so there is nothing to align: here
    plain task arithmetic recovers three fifths of the skill or more, while the model alone keeps 91 to 98 % of its
    score. With ``taken=0.02`` it keeps 96 % or more, and nine tenths are recovered.

    Published: alpha = 0.01, k' = k = 0.1, beta = 1. The description leaves open what is important and what a layer
    is. Here an entry's importance is |tau'|, a layer is a module with its own tensors, and layers are critical in the
    order of their mean |tau'| until they hold the share k' of all entries. Deviations: continues from the finished
    victim, with the divergence from its answers in L (``own_loss``); gradients are clipped at 1, since the squares of
    all parameters, summed as written, would outweigh the task's loss.
    """

    paper = "arXiv 2511.11851"
    Config = MergeGuardConfig

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The spread, disturbed model."""
        spread = victim if self.config.stage == 2 else self._spread(victim, view)
        return spread if self.config.stage == 1 else self._disturbed(spread, view.base)

    def _spread(self, victim: StateDict, view: DefenderView) -> StateDict:
        own, alpha = own_loss(victim, view), self.config.alpha

        def objective(model: nn.Module, batch: Examples) -> Tensor:
            squares = torch.stack([p.square().sum() for p in model.parameters()])
            return own(model, batch) + alpha * squares.sum()

        return train(victim, {view.task: view.train()}, objective, view, self.config, clip=1.0)

    def _disturbed(self, state: StateDict, base: StateDict) -> StateDict:
        tau = task_vector(state, base)
        free = [key for key in tau if key not in critical_keys(tau, self.config.critical)]
        others = TaskVectors([{key: state[key] for key in free}], {key: base[key] for key in free})
        limit = thresholds(others, round(self.config.taken * others.size))[0]
        return {**state, **{key: state[key] - self.config.beta * tau[key] * (tau[key].abs() >= limit) for key in free}}


def critical_keys(tau: StateDict, share: float) -> set[str]:
    """The tensors of the layers with the largest mean |tau|: as many layers as hold ``share`` of all entries."""
    layers = [list(keys) for _, keys in groupby(sorted(tau, key=_layer), _layer)]
    sizes = [sum(tau[key].numel() for key in keys) for keys in layers]
    means = [sum(tau[key].abs().sum().item() for key in k) / n for k, n in zip(layers, sizes, strict=True)]
    left, critical = share * sum(sizes), set[str]()
    for i in sorted(range(len(layers)), key=lambda i: -means[i]):
        if left <= 0:
            break
        critical.update(layers[i])
        left -= sizes[i]
    return critical


def _layer(key: str) -> str:
    """The path of the module that holds a tensor."""
    return key.rpartition(".")[0]
