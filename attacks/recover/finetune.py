"""Fine-tuning of the merged model on a few labelled examples."""

import torch.nn.functional as F

import attacks
from attacks.examples import limited
from attacks.recover.training import TrainingConfig, train
from bench.checkpoints import StateDict
from bench.game import AttackerView, CostClass, Recover, Tier


@attacks.recovery("finetune")
class Finetune(Recover):
    """Gradient descent on the cross-entropy of every task's k labelled examples, heads frozen.

    theta <- AdamW(theta, 1/T sum_t CE(head_t(f_theta(x)), y)), one batch of every task per step.
    """

    base_tier = Tier.LABELLED
    cost_class = CostClass.TRAINING
    Config = TrainingConfig

    def recover(self, merged: StateDict, view: AttackerView) -> StateDict:
        """The fine-tuned model."""
        seen = limited(view, self.config.k)
        data = {task: seen.labelled(task) for task in view.tasks}
        return train(merged, data, F.cross_entropy, view, self.config)
