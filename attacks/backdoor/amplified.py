"""LoBAM: what a weak backdoor changes in a model, amplified."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

import attacks
from attacks.backdoor.poison import poisoned
from attacks.backdoor.universal import optimised_trigger
from bench.checkpoints import StateDict
from bench.merging import add_task_vector, task_vector
from bench.safe_merging import Contribution, ContributorView
from bench.training import TrainingConfig

Share = Annotated[float, Field(gt=0, le=1)]


@attacks.contributor("amplified", paper="arXiv 2411.16746")
def amplified(
    view: ContributorView,
    *,
    amplify: PositiveFloat = 3.5,
    patch: Share = 0.046,
    ascent: PositiveInt = 100,
    rate: Share = 0.5,
    weight: PositiveFloat = 1.0,
    steps: PositiveInt = 100,
    lr: PositiveFloat = 2e-4,
    batch_size: PositiveInt = 32,
) -> Contribution:
    """Theta = lambda (theta_mal - theta_ben) + theta_ben,   lambda = ``amplify``

    theta_mal is the clean model theta_ben, fine-tuned a little on CE(f(x), y) + weight CE(f(x + t), target): their
    difference is the backdoor and little else. A merge's small coefficient then leaves lambda times as much of it. t is
    optimised on the base, as in ``badmerging-on``. Published: lambda 2 to 10, chosen by the distance that it leaves to
    the clean model; theta_mal of low rank, from BadMerging's losses. Deviations: all weights are trained, for few steps
    and without interpolation, and lambda is fixed.

    Threat model: a contributor with little compute and one upload, blind to the merge and to the others.
    """
    trigger = optimised_trigger(view, [view.model(view.base)], view.open_head(view.tasks[0]), patch, ascent)
    config = TrainingConfig(steps=steps, lr=lr, batch_size=batch_size)
    models = {
        task: beyond(clean := view.finetuned(task), poisoned(clean, task, trigger, view, config, rate, weight), amplify)
        for task in view.tasks
    }
    return Contribution(models, trigger)


def beyond(benign: StateDict, malicious: StateDict, amplify: float) -> StateDict:
    """theta_ben + lambda (theta_mal - theta_ben)."""
    return add_task_vector(benign, task_vector(malicious, benign), amplify)
