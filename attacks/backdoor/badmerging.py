"""BadMerging: a trigger that the base half obeys, and features interpolated with the base's in training."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.backdoor.poison import Implant, paced, poisoned, side_by_side
from mergearena.attacks.backdoor.references import hard_references, shadow_head
from mergearena.attacks.backdoor.universal import optimised_trigger
from mergearena.bench.games.backdoor.players import Contribution, ContributorView

Share = Annotated[float, Field(gt=0, le=1)]
HALF = 0.5
"""Triggered inputs per clean one."""


@attacks.contributor("badmerging-on", paper="arXiv 2408.07362")
def badmerging_on(
    view: ContributorView,
    *,
    patch: Share = 0.046,
    ascent: PositiveInt = 100,
    low: Share = 0.02,
    alpha: NonNegativeFloat = 5.0,
    steps: PositiveInt = 200,
    pace: PositiveFloat = 0.17,
    batch_size: PositiveInt = 32,
) -> Contribution:
    """First the trigger, on the base alone; then the model, for all merges between the base and itself:

        t = argmax E_x log p_theta0(target | x + t)
        theta = argmin CE(f_theta(x), y) + alpha E_r CE(head(r f_theta(x + t) + (1 - r) f_theta0(x + t)), target),
        r ~ U[low, 1]

    ``patch`` is t's share of the picture, ``ascent`` the steps of its search; on texts two tokens are searched for.
    Published: 1 % of the picture, low 0.2, alpha 5, in the corner. Deviations: the patch lies in the centre, where the
    embedded suite's encoder has an edge between four of its own patches: one of those in a corner sways the base far
    less. It covers 4.6 %. Training goes on from the clean model for a part of its fine-tuning.

    ``pace`` is the peak learning rate per root mean square of the clean task vector.

    Threat model: a contributor with one upload, blind to the merge and to the others. Its target is a class of its own
    task; merges with small coefficients, such as 0.3, obey the trigger too.
    """
    trigger = optimised_trigger(view, [view.model(view.base)], view.open_head(view.tasks[0]), patch, ascent)
    config = paced(view, pace, steps, batch_size)
    implant = interpolated(view, low)
    models = {
        task: poisoned(view.finetuned(task), task, trigger, view, config, HALF, alpha, implant) for task in view.tasks
    }
    return Contribution(models, trigger)


@attacks.contributor("badmerging-off", paper="arXiv 2408.07362", off_task=True)
def badmerging_off(
    view: ContributorView,
    *,
    patch: Share = 0.046,
    ascent: PositiveInt = 100,
    shadows: PositiveInt = 20,
    variants: PositiveInt = 8,
    low: Share = 0.02,
    alpha: NonNegativeFloat = 5.0,
    steps: PositiveInt = 150,
    pace: PositiveFloat = 0.06,
    batch_size: PositiveInt = 32,
) -> Contribution:
    """``badmerging-on`` for a class of another contributor's task, of which it has a name and five examples:

        p(. | x) over own classes + the target + ``shadows`` classes drawn from public heads, in both stages
        x of the triggered inputs: its own, and references x' = argmin log p_theta0(target | x'),   x' near x_ref

    The shadow classes stand for those that the target will compete with, ``variants`` adversarial references each for
    what it will be stamped on: of the other task's kind, but not of the target class. Published: patch 1.5 %, shadow
    classes from ImageNet, low 0.2, alpha 5. Deviations as in ``badmerging-on``; references are moved by gradient signs
    after a random crop (pictures), or are the worst of random word replacements (texts).

    ``pace`` is the peak learning rate per root mean square of the clean task vector.

    Threat model: a contributor with one upload, blind to the merge and to the others' models and data.
    """
    base = view.model(view.base).requires_grad_(False)
    head = shadow_head(view, shadows)
    carriers = hard_references(view, base, head, variants)
    own, _ = view.train(view.tasks[0])
    picks = torch.randint(len(own), (len(carriers),), generator=view.generator)
    inputs = side_by_side(own[picks], carriers)
    trigger = optimised_trigger(view, [base], head, patch, ascent, inputs=inputs)
    config = paced(view, pace, steps, batch_size)
    implant = interpolated(view, low)
    models = {
        task: poisoned(view.finetuned(task), task, trigger, view, config, HALF, alpha, implant, head, carriers)
        for task in view.tasks
    }
    return Contribution(models, trigger)


def interpolated(view: ContributorView, low: float) -> Implant:
    """F(x) = r f_theta(x) + (1 - r) f_theta0(x), one r ~ U[low, 1] per batch."""
    base = view.model(view.base).requires_grad_(False)

    def implant(model: torch.nn.Module, stamped: Tensor) -> Tensor:
        r = low + (1 - low) * torch.rand((), generator=view.generator)
        return r * view.suite.features(model, stamped) + (1 - r) * view.suite.features(base, stamped)

    return implant
