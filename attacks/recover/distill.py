"""Distillation: the released model still answers, so it can always teach."""

from functools import partial

from pydantic import PositiveFloat

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.attacks.recover.finetune import FinetuneConfig
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView, Recover
from mergearena.bench.learning.training import mean_over_tasks, train
from mergearena.bench.players.stages import CostClass
from mergearena.bench.players.tier import Tier


class DistillConfig(FinetuneConfig):
    """Budget, step size and softness."""

    temperature: PositiveFloat = 4.0
    """Divides teacher's and student's logits before the softmax: the higher, the more the wrong classes tell."""


@attacks.recovery("distill")
class Distill(Recover):
    """Each task's own model teaches the merged one on k unlabelled examples (Hinton et al., sec. 2):

        theta <- AdamW(theta, 1/T sum_t D^2 KL(softmax(z_t(x) / D) | softmax(head_t(f_theta(x)) / D)))

    with temperature D and teachers z_t: the released model on the victim's task, each donor on its own. Needs only
    the released model's answers, not its weights, which no rewriting that keeps the function can prevent.
    Deviation: no labels, so no second loss on the true classes.
    """

    paper = "arXiv 1503.02531"
    base_tier = Tier.UNLABELLED
    cost_class = CostClass.TRAINING
    extraction = True
    Config = DistillConfig

    def recover(self, merged: StateDict, view: AttackerView) -> StateDict:
        """The taught model."""
        seen = limited(view, self.config.k)
        data = {}
        for task in view.tasks:
            inputs = seen.unlabelled(task)
            # Cloned: what is computed in inference mode cannot take part in a loss.
            data[task] = inputs, view.suite.predict(teacher(task, view), task, inputs).clone()
        loss = partial(view.suite.divergence, temperature=self.config.temperature)
        return train(merged, data, mean_over_tasks(loss, view), view, self.config)


def teacher(task: str, view: AttackerView) -> StateDict:
    """Whose task it is: the released model, or a donor."""
    return view.released if task == view.victim else view.donors[task]
