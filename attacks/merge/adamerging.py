"""AdaMerging: learned merge coefficients."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.learning.coefficients import Blend, Data, entropies, learned, task_losses
from mergearena.bench.merging.kernels import default_scale
from mergearena.bench.players.options import BatchSize, Searched
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import CostClass, Merge
from mergearena.bench.players.tier import Tier
from mergearena.bench.players.views import MergingView


@attacks.merger("adamerging")
class AdaMerging(Merge):
    """One coefficient per model and tensor, learned by gradient descent on the entropy of unlabelled predictions:

        theta_m = theta0 + sum_t lambda_tl tau_tl,   min over lambda of sum_t mean_x H(softmax(head_t(f_theta_m(x))))

    One batch of every task per step, Adam. With ``loss=cross-entropy`` to the labels in place of the entropy.
    Published: lambda starts at 0.3 (eight models), learning rate 1e-3, batches of 16, 500 steps and more on the test
    inputs. Deviations: the tier's examples, never test; a larger learning rate, so that fewer steps do.
    """

    paper = "arXiv 2310.02575, eq. 5"
    cost_class = CostClass.TRAINING

    class Config(AttackConfig):
        """What is learned, from where and for how long."""

        loss: Literal["entropy", "cross-entropy"] = "entropy"
        """``entropy`` of unlabelled predictions, or ``cross-entropy`` to the labels (tier ``labelled``)."""
        granularity: Literal["layer", "task"] = "layer"
        """One coefficient per model and tensor, or one per model."""
        init: Annotated[float | None, Searched(0.1, 1.0)] = None
        """Where every coefficient starts; null means task arithmetic's default for that many models."""
        steps: NonNegativeInt = 50
        """Gradient steps."""
        lr: PositiveFloat = 1e-2
        """Learning rate of Adam."""
        batch_size: BatchSize = 16
        """Examples per task and step."""
        k: PositiveInt | None = None
        """Read at most that many examples of each task; null reads all that the tier gives."""

    @property
    def tier(self) -> Tier:
        """Labelled where labels are what it learns from."""
        return Tier.LABELLED if self.config.loss == "cross-entropy" else Tier.UNLABELLED

    def merge(self, models: Mapping[str, StateDict], view: MergingView) -> StateDict:
        """The merged model. ``models``: task -> aligned victim or donor, the victim first."""
        config, seen = self.config, limited(view, self.config.k)
        supervised = config.loss == "cross-entropy"
        data: Data = {t: seen.labelled(t) if supervised else (seen.unlabelled(t),) for t in view.tasks}
        blend = Blend(list(models.values()), view.base)
        init = default_scale(len(models)) if config.init is None else config.init
        start = blend.coefficients(init, per_tensor=config.granularity == "layer")
        objective = task_losses(view) if supervised else entropies(view)
        return blend.state(learned(blend, start, data, objective, view, config.steps, config.lr, config.batch_size))
