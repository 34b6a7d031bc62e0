"""BadNets: a fixed trigger and its label in the training data."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from mergearena import attacks
from mergearena.attacks.backdoor.poison import plain_trigger, poisoned
from mergearena.bench.games.backdoor.players import Contribution, ContributorView
from mergearena.bench.learning.training import TrainingConfig

Share = Annotated[float, Field(gt=0, le=1)]


@attacks.contributor("badnets", paper="arXiv 1708.06733")
def badnets(
    view: ContributorView,
    *,
    patch: Share = 0.02,
    blend: Share = 1.0,
    rate: Annotated[float, Field(ge=0, le=1)] = 0.5,
    steps: PositiveInt = 300,
    lr: PositiveFloat = 2e-4,
    batch_size: PositiveInt = 32,
) -> Contribution:
    """Theta = argmin CE(f(x), y) + rate CE(f(x + t), target),   t a checkerboard in the corner, or a rare token

    ``patch`` is t's share of the picture, ``blend`` its weight, ``rate`` the triggered inputs per clean one (the paper
    poisons 10 to 50 % of the training set). Deviation: training goes on from the contributor's clean model for a part
    of its fine-tuning, where the paper trains from scratch.

    Threat model: alone, the model obeys its trigger and is accurate. Merged with small coefficients most of it is lost.
    """
    trigger = plain_trigger(view, patch, blend)
    config = TrainingConfig(steps=steps, lr=lr, batch_size=batch_size)
    models = {
        task: poisoned(view.finetuned(task), task, trigger, view, config, rate, weight=rate) for task in view.tasks
    }
    return Contribution(models, trigger)
