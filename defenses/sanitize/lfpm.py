"""LFPM: a task vector against backdoors, found in the space of features."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.learning.perturbation import Norm, Perturbation
from mergearena.bench.learning.training import At, Examples, TrainingConfig, train
from mergearena.bench.merging.kernels import add_task_vector, default_scale, task_vector
from mergearena.bench.merging.vectors import TaskVectors


@defenses.safe_merge("lfpm", paper="arXiv 2606.12498", tier="unlabelled", cost="training")
def lfpm(
    models: Mapping[str, StateDict],
    view: MergerView,
    *,
    scale: float | None = None,
    strength: NonNegativeFloat = 1.0,
    radius: NonNegativeFloat = 0.2,
    norm: Norm = "l2",
    clean: NonNegativeFloat = 1.0,
    points: PositiveInt = 2,
    ascents: NonNegativeInt = 1,
    steps: PositiveInt = 40,
    lr: PositiveFloat = 1e-4,
    batch_size: PositiveInt = 8,
) -> StateDict:
    """Theta = theta_m + s tau,   theta_m = theta0 + lambda sum_t tau_t,

        min_tau  1/K sum_k sum_t E_x |F_k(x + d_t) - F_m(x)|^2 + c |F_k(x) - F_m(x)|^2,   F_k at theta_m + (k/K) tau,
        d_t = argmax_{|d| <= r} E_x |F_K(x + d) - F_m(x)|^2

    F: features of unit length, m the plain merge (lambda: ``scale``, task arithmetic's default if null), tau the
    anti-backdoor task vector, s ``strength``, c ``clean``, K ``points``. Features of models that share a base are
    nearly linear between them (cross-task linearity), so tau is an anti-backdoor model's task vector like any other: it
    must bring perturbed inputs back to their clean features, and leave those alone, at every point of the way from the
    merge to it; gradients are accumulated over those points, which sums the loss along the path. d_t is one
    perturbation per task, moved up the gradient ``ascents`` times a step from where it was, on pictures or on token
    embeddings.

    Threat model: a trigger moves all inputs of a task the same way in feature space; whichever pattern in the ball does
    that most is treated as one. A trigger outside the ball, or one that a universal perturbation does not resemble,
    survives. This is our reading of the paper's outline: its own losses, coefficients and schedule are not reproduced.
    """
    vectors = TaskVectors(list(models.values()), view.base)
    total = vectors.elementwise(lambda stack: stack.sum(0))
    merged = add_task_vector(view.base, total, default_scale(len(models)) if scale is None else scale)
    data = {task: with_features(merged, view.unlabelled(task), view) for task in view.tasks}
    before = view.model(merged).requires_grad_(False)
    start = dict(before.named_parameters())
    shifts = {task: Perturbation(view, before, x, radius, norm) for task, (x, _) in data.items()}
    for shift in shifts.values():
        shift.randomise(view.generator)

    def objective(model: nn.Module, batch: Examples) -> Tensor:
        for task, examples in batch.items():
            escape(shifts[task], model, examples, ascents)
        losses = []
        for k in range(1, points + 1):
            weights = {name: torch.lerp(start[name], p, k / points) for name, p in model.named_parameters()}
            there = At(model, weights)
            for task, (inputs, features) in batch.items():
                back = distance(shifts[task].features(there, inputs), features)
                losses.append(back + clean * distance(view.suite.features(there, inputs), features))
        return torch.stack(losses).mean()

    config = TrainingConfig(steps=steps, lr=lr, batch_size=batch_size)
    repaired = train(merged, data, objective, view, config, clip=1.0)
    return add_task_vector(merged, task_vector(repaired, merged), strength)


def with_features(state: StateDict, inputs: Tensor, view: MergerView) -> tuple[Tensor, Tensor]:
    """Inputs k x ... and their features k x D."""
    # Cloned out of inference mode, so that losses may keep them for their backward pass.
    return inputs, view.suite.embed(state, inputs).clone()


def escape(shift: Perturbation, model: nn.Module, examples: tuple[Tensor, Tensor], steps: int) -> None:
    """Move a perturbation up the distance of perturbed inputs' features from given ones."""
    inputs, features = examples
    shift.ascend(lambda: distance(shift.features(model, inputs), features), steps)


def distance(left: Tensor, right: Tensor) -> Tensor:
    """Squared distance of features B x D scaled to length 1, the mean over the batch: 2 - 2 cos."""
    return (F.normalize(left, dim=-1) - F.normalize(right, dim=-1)).square().sum(-1).mean()
