"""Fine-tuning of the merged model on a few labelled examples."""

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt

import attacks
from bench.checkpoints import StateDict
from bench.game import AttackConfig, AttackerView, CostClass, Recover, Tier


@attacks.recovery("finetune")
class Finetune(Recover):
    """Gradient descent on the cross-entropy of every task's k labelled examples, heads frozen.

    theta <- AdamW(theta, 1/T sum_t CE(head_t(f_theta(x)), y)), one batch of every task per step.
    """

    base_tier = Tier.LABELLED
    cost_class = CostClass.TRAINING

    class Config(AttackConfig):
        """Budget and step size."""

        steps: PositiveInt = 20
        """Gradient steps."""
        lr: PositiveFloat = 1e-4
        """Peak learning rate, annealed to zero along a cosine."""
        batch_size: PositiveInt = 16
        """Examples per task and step."""

    def recover(self, merged: StateDict, view: AttackerView) -> StateDict:
        """The fine-tuned model."""
        config = self.config
        data = {task: view.labelled(task) for task in view.tasks}
        model = view.model(merged).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        for _ in range(config.steps):
            loss = torch.zeros(())
            for task, (inputs, labels) in data.items():
                batch = torch.randint(len(labels), (config.batch_size,), generator=view.generator)
                loss = loss + F.cross_entropy(view.logits(model, task, inputs[batch]), labels[batch]) / len(data)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return {key: value.detach() for key, value in model.state_dict().items()}
