"""Fine-tuning of the merged model on a few labelled examples."""

from pydantic import PositiveInt

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView, Recover
from mergearena.bench.learning.training import TrainingConfig, mean_over_tasks, train
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import CostClass
from mergearena.bench.players.tier import Tier


class FinetuneConfig(TrainingConfig, AttackConfig):
    """Budget, step size and what may be read."""

    k: PositiveInt | None = None
    """Read at most that many examples of each task; null reads all that the tier gives."""


@attacks.recovery("finetune")
class Finetune(Recover):
    """Gradient descent on the cross-entropy of every task's k labelled examples, heads frozen.

    theta <- AdamW(theta, 1/T sum_t CE(head_t(f_theta(x)), y)), one batch of every task per step.
    """

    base_tier = Tier.LABELLED
    cost_class = CostClass.TRAINING
    Config = FinetuneConfig

    def recover(self, merged: StateDict, view: AttackerView) -> StateDict:
        """The fine-tuned model."""
        seen = limited(view, self.config.k)
        data = {task: seen.labelled(task) for task in view.tasks}
        return train(merged, data, mean_over_tasks(view.suite.criterion, view), view, self.config)
