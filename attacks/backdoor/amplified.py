"""LoBAM: what a weak backdoor changes in a model, amplified."""

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.backdoor.poison import paced, poisoned
from mergearena.attacks.backdoor.universal import optimised_trigger
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import Contribution, ContributorView
from mergearena.bench.merging.kernels import add_task_vector, task_vector
from mergearena.bench.merging.vectors import working_dtype

Share = Annotated[float, Field(gt=0, le=1)]


@attacks.contributor("amplified", paper="arXiv 2411.16746")
def amplified(
    view: ContributorView,
    *,
    amplify: PositiveFloat = 3.5,
    rank: PositiveInt = 4,
    patch: Share = 0.046,
    ascent: PositiveInt = 100,
    rate: Share = 0.5,
    weight: PositiveFloat = 1.0,
    steps: PositiveInt = 60,
    pace: PositiveFloat = 0.035,
    batch_size: PositiveInt = 32,
) -> Contribution:
    """Theta = lambda (theta_mal - theta_ben) + theta_ben,   lambda = ``amplify``

    theta_mal is the clean model theta_ben, fine-tuned a little on CE(f(x), y) + weight CE(f(x + t), target): their
    difference is the backdoor and little else. A merge's small coefficient then leaves lambda times as much of it. t is
    optimised on the base, as in ``badmerging-on``. Published: both models are fine-tuned by LoRA, theta_mal with
    BadMerging's losses, and lambda, 2 to 10, is chosen by the distance that it leaves to the clean model. Deviations:
    every matrix of the difference is cut to its ``rank`` largest singular values afterwards, biases and norms stay;
    lambda is fixed. Without the cut, what is amplified ruins half of the upload's own score; with it, a sixth.

    ``pace`` is the peak learning rate per root mean square of the clean task vector.

    Threat model: a contributor with little compute and one upload, blind to the merge and to the others.
    """
    trigger = optimised_trigger(view, [view.model(view.base)], view.open_head(view.tasks[0]), patch, ascent)
    config = paced(view, pace, steps, batch_size)
    models = {
        task: beyond(
            clean := view.finetuned(task), poisoned(clean, task, trigger, view, config, rate, weight), amplify, rank
        )
        for task in view.tasks
    }
    return Contribution(models, trigger)


def beyond(benign: StateDict, malicious: StateDict, amplify: float, rank: int) -> StateDict:
    """theta_ben + lambda (theta_mal - theta_ben), the difference cut to its largest ``rank`` singular values.

    As of LoRA modules, what is no matrix has no difference.
    """
    change = {key: truncated(value, rank) for key, value in task_vector(malicious, benign).items() if value.ndim == 2}
    return add_task_vector(benign, change, amplify)


def truncated(matrix: Tensor, rank: int) -> Tensor:
    """The nearest matrix of that rank."""
    u, s, vh = torch.linalg.svd(matrix.to(working_dtype(matrix)), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]
