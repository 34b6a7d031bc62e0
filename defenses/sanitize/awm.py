"""AWM: mask the weights that a universal perturbation of the inputs relies on."""

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.learning.perturbation import Norm, Perturbation
from mergearena.bench.learning.training import At
from mergearena.bench.merging.kernels import matrices
from mergearena.defenses.sanitize.own_answers import Share, batches, mean_loss, mislead, own_answers


@defenses.repair("awm", paper="arXiv 2207.04497", tier="unlabelled", cost="training")
def awm(
    merged: StateDict,
    view: MergerView,
    *,
    radius: NonNegativeFloat = 0.2,
    norm: Norm = "l1",
    clean: Share = 0.9,
    sparsity: NonNegativeFloat = 0.01,
    ascents: PositiveInt = 2,
    steps: PositiveInt = 40,
    lr: PositiveFloat = 0.01,
    batch_size: PositiveInt = 16,
) -> StateDict:
    """Multiply every weight by the soft mask m that solves

        min_m a L(f(x; m w)) + (1 - a) max_{|d_t| <= r} L(f(x + d_t; m w)) + g mean |m|,   m in [0, 1] per weight

    d_t is one perturbation for all inputs of task t, on pictures or on token embeddings, of at most ``radius`` of the
    signal's mean ``norm``; a is ``clean``, g ``sparsity``. Each step moves d_t along the gradient from where it was,
    then m by Adam. L is the cross-entropy to the merged model's own answers.

    Threat model: the trigger is a fixed pattern that a bounded perturbation comes near to, and the weights that see it
    can be spared; whoever makes the trigger as strong a feature as the classes' own escapes. It costs a few points of
    score on pictures; on two text tasks with 32 examples each it cost 10 and 15. Deviations: no labels, and few
    steps; masks only on weights that multiply features (no tables, norms or biases); g weighs the mean of the mask,
    which does not depend on how many weights there are; a, r and the steps are chosen here, not the paper's.
    """
    data = own_answers(merged, view)
    model = view.model(merged).requires_grad_(False)
    masks = {key: torch.ones_like(merged[key]).requires_grad_() for key in sorted(matrices(view.architecture, merged))}
    count = sum(m.numel() for m in masks.values())
    triggers = {task: Perturbation(view, model, x, radius, norm) for task, (x, _) in data.items()}
    optimizer = torch.optim.Adam(masks.values(), lr=lr)
    for batch in batches(data, batch_size, steps, view):
        frozen = At(model, masked(merged, {key: m.detach() for key, m in masks.items()}))
        for task, examples in batch.items():
            mislead(triggers[task], frozen, task, examples, ascents)
        moving = At(model, masked(merged, masks))
        plain = mean_loss({task: view.logits(moving, task, x) for task, (x, _) in batch.items()}, batch)
        shifted = mean_loss({task: triggers[task].logits(moving, task, x) for task, (x, _) in batch.items()}, batch)
        size = torch.stack([m.sum() for m in masks.values()]).sum() / count
        optimizer.zero_grad()
        (clean * plain + (1 - clean) * shifted + sparsity * size).backward(inputs=list(masks.values()))
        optimizer.step()
        with torch.no_grad():
            for m in masks.values():
                m.clamp_(0, 1)
    return {**merged, **masked(merged, {key: m.detach() for key, m in masks.items()})}


def masked(state: StateDict, masks: StateDict) -> StateDict:
    """The weights that have a mask, times it."""
    return {key: mask * state[key] for key, mask in masks.items()}
