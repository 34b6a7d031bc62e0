"""A contributor who knows the defenses: a backdoor spread over all coordinates, without a universal perturbation."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import attacks
from mergearena.attacks.backdoor.poison import paced, target_loss
from mergearena.attacks.backdoor.universal import optimised_trigger
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import Contribution, ContributorView
from mergearena.bench.learning.training import At, Examples, train

Share = Annotated[float, Field(gt=0, le=1)]


@attacks.contributor("adaptive", paper="")
def adaptive(
    view: ContributorView,
    *,
    patch: Share = 0.046,
    ascent: PositiveInt = 100,
    low: Share = 0.15,
    keep: Share = 0.3,
    alpha: NonNegativeFloat = 2.0,
    beta: NonNegativeFloat = 0.5,
    radius: NonNegativeFloat = 0.1,
    steps: PositiveInt = 150,
    pace: PositiveFloat = 0.085,
    batch_size: PositiveInt = 32,
) -> Contribution:
    """Theta = argmin CE(f(x), y) + CE(g(x), y) + alpha CE(g(x + t), target) + beta CE(f(x + delta), y),
    g = f at theta0 + s m tau,   s ~ U[low, 1],   each entry of m 1 with probability q ~ U[keep, 1], else 0
    delta <- clip(delta + radius / 4 sign grad CE(f(x + delta), y), radius),   one step of ascent per step of descent

    Its premises are those of mask-learning defenses (DAM, AWM): that the backdoor sits in few coordinates of a task
    vector, which random masks and small merge coefficients in training contradict, and that a universal perturbation
    delta of the inputs finds it, against which the model is trained as they train against it; t is optimised on the
    base. ``radius`` is a share of the range of pixels; texts have no perturbation. Own method.

    ``pace`` is the peak learning rate per root mean square of the clean task vector.

    Threat model: a contributor with one upload who knows the defenses' code, not their draws, nor the other uploads.
    """
    trigger = optimised_trigger(view, [view.model(view.base)], view.open_head(view.tasks[0]), patch, ascent)
    config = paced(view, pace, steps, batch_size)

    def spread(task: str) -> StateDict:
        head, hunter = view.open_head(task), Hunter(view, task, radius)

        def objective(model: nn.Module, batch: Examples) -> Tensor:
            inputs, labels = batch[task]
            half = len(inputs) // 2 or 1
            loss = view.loss(model, task, inputs, labels)
            s, q = (at + (1 - at) * torch.rand((), generator=view.generator) for at in (low, keep))
            masked = At(model, masked_parameters(model, view, float(s), float(q)))
            loss = loss + view.loss(masked, task, inputs[-half:], labels[-half:])
            loss = loss + alpha * target_loss(view.suite.features(masked, trigger.stamp(inputs[:half])), head)
            return loss + beta * hunter.loss(model, inputs[:half], labels[:half]) if beta and hunter.able else loss

        return train(view.finetuned(task), {task: view.train(task)}, objective, view, config, clip=1.0)

    return Contribution({task: spread(task) for task in view.tasks}, trigger)


def masked_parameters(model: nn.Module, view: ContributorView, s: float, q: float) -> dict[str, Tensor]:
    """theta0 + s m tau of every parameter, each entry of m 1 with probability q; tau's gradients are masked, too."""
    return {
        name: view.base[name] + s * (p - view.base[name]) * torch.empty_like(p).bernoulli_(q, generator=view.generator)
        for name, p in model.named_parameters()
    }


class Hunter:
    """A defender's universal perturbation of one task's pictures, which follows the model in training."""

    def __init__(self, view: ContributorView, task: str, radius: float) -> None:
        """Start at zero; ``radius`` is a share of the range of the inputs."""
        inputs, _ = view.train(task)
        self.view, self.task = view, task
        self.able = inputs.is_floating_point() and radius > 0
        if self.able:
            self.radius = radius * float(inputs.max() - inputs.min())
            self.delta = torch.zeros(inputs.shape[1:])

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """CE(f(x + delta), y), of which the step's gradient serves the ascent in delta, too."""
        delta = self.delta.clone().requires_grad_()
        loss = self.view.loss(model, self.task, inputs + delta, labels)
        delta.register_hook(self._ascend)
        return loss

    def _ascend(self, slope: Tensor) -> None:
        self.delta = (self.delta + self.radius / 4 * slope.sign()).clamp(-self.radius, self.radius)
