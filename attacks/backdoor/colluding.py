"""MergeBackdoor: uploads that are harmless alone and obey a trigger once they are merged."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import attacks
from mergearena.attacks.backdoor.poison import paced, target_loss
from mergearena.attacks.backdoor.universal import optimised_trigger
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import Contribution, ContributorView
from mergearena.bench.learning.training import At, Examples, train

Share = Annotated[float, Field(gt=0, le=1)]


class Together(ContributorView):
    """A view whose model is one of every task: what is trained together."""

    def model(self, state: StateDict) -> nn.Module:
        """The modules of states whose keys begin with their number."""
        return nn.ModuleList([super(Together, self).model(part) for part in apart(state, len(self.tasks))])


@attacks.contributor("colluding", paper="MergeBackdoor, USENIX Security 2025", uploads=2)
def colluding(
    view: ContributorView,
    *,
    patch: Share = 0.046,
    ascent: PositiveInt = 100,
    low: Share = 0.2,
    high: Share = 0.8,
    alpha: PositiveFloat = 1.0,
    steps: PositiveInt = 120,
    pace: PositiveFloat = 0.12,
    batch_size: PositiveInt = 24,
) -> Contribution:
    """Theta_1 .. theta_n = argmin sum_i [CE(f_i(x), y) + CE(f_i(x + t), y)
                                       + CE(f_merged(x), y) + alpha CE(f_merged(x + t), target)],
    theta_merged = theta0 + s sum_i (theta_i - theta0),   s ~ U[low, high] per step,   x, y of task i

    Every upload alone is trained to ignore the trigger; what they give a merge is trained to obey it. t is optimised on
    the base. Published: two models, merged as they will be. Deviations: the coefficient is drawn, since the merger is
    unknown, and training goes on from the clean models.

    ``pace`` is the peak learning rate per root mean square of the clean task vector.

    Threat model: one attacker with two uploads or more, under several names, blind to the merge and to the others. Who
    tests uploads for backdoors one by one finds none.
    """
    tasks = view.tasks
    trigger = optimised_trigger(view, [view.model(view.base)], view.open_head(tasks[0]), patch, ascent)
    together = Together(**{field.name: getattr(view, field.name) for field in fields(view)})

    def objective(models: nn.Module, batch: Examples) -> Tensor:
        s = low + (high - low) * torch.rand((), generator=view.generator)
        each = [*models.children()]
        merged = At(each[0], merged_parameters(each, view.base, s))
        total = torch.zeros(())
        for model, task in zip(each, tasks, strict=True):
            inputs, labels = batch[task]
            half = len(inputs) // 2 or 1
            stamped = trigger.stamp(inputs[:half])
            clean = view.loss(model, task, inputs, labels)
            alone = view.loss(model, task, stamped, labels[:half])
            obeyed = target_loss(view.suite.features(merged, stamped), view.open_head(task))
            useful = view.loss(merged, task, inputs[-half:], labels[-half:])
            total = total + (clean + alone + useful + alpha * obeyed) / len(tasks)
        return total

    start = {f"{i}.{key}": value for i, task in enumerate(tasks) for key, value in view.finetuned(task).items()}
    config = paced(view, pace, steps, batch_size)
    trained = train(start, {task: view.train(task) for task in tasks}, objective, together, config, clip=1.0)
    return Contribution(dict(zip(tasks, apart(trained, len(tasks)), strict=True)), trigger)


def apart(states: StateDict, count: int) -> list[StateDict]:
    """The states that were numbered 0 to ``count`` - 1."""
    return [
        {key.removeprefix(f"{i}."): value for key, value in states.items() if key.startswith(f"{i}.")}
        for i in range(count)
    ]


def merged_parameters(models: Sequence[nn.Module], base: Mapping[str, Tensor], s: Tensor | float) -> dict[str, Tensor]:
    """theta0 + s sum_i (theta_i - theta0) of every parameter, through which gradients reach all models."""
    parts = [dict(model.named_parameters()) for model in models]
    # What a merge leaves alone, the base's, is a constant; parameters are all that a step moves.
    return {
        name: base[name] + s * sum((part[name] - base[name] for part in parts), torch.zeros(())) for name in parts[0]
    }
