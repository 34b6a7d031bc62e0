"""What trained defenses minimise beside their own term: the task's loss, and the distance to the victim's answers."""

import torch
from torch import Tensor, nn

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView
from mergearena.bench.learning.training import Examples, Objective


def own_loss(victim: StateDict, view: DefenderView) -> Objective:
    """CE(f_theta(x), y) + KL(f_victim(x) | f_theta(x)) on a batch of the defender's task.

    The divergence is not in the papers, which train until the labels are learned: within a share of one fine-tuning,
    on examples that the victim knows by heart, its soft answers keep the score that labels alone would lose. Costs
    a forward pass of the victim beside every step.
    """
    teacher, suite = view.model(victim), view.suite

    def objective(model: nn.Module, batch: Examples) -> Tensor:
        inputs, labels = batch[view.task]
        with torch.no_grad():
            taught = suite.outputs(teacher, view.task, inputs)
        outputs = suite.outputs(model, view.task, inputs)
        return suite.criterion(outputs, labels) + suite.divergence(outputs, taught)

    return objective
