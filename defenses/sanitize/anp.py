"""ANP: prune the neurons through which a small change of the weights turns a model."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.learning.training import At, Examples
from mergearena.defenses.sanitize.neurons import Neurons
from mergearena.defenses.sanitize.own_answers import Share, batches, mean_loss, own_answers


@defenses.repair("anp", paper="arXiv 2110.14430", tier="unlabelled", cost="training")
def anp(
    merged: StateDict,
    view: MergerView,
    *,
    radius: NonNegativeFloat = 0.4,
    clean: Share = 0.2,
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    steps: PositiveInt = 40,
    lr: PositiveFloat = 10.0,
    batch_size: PositiveInt = 16,
) -> StateDict:
    """Prune neurons whose mask m falls to ``threshold`` or below in

        min_m a L(m w, b) + (1 - a) max_{d, e} L((m + d) w, (1 + e) b),   m in [0, 1]^n,   |d_i|, |e_i| <= ``radius``

    w, b: outgoing weights and bias of a hidden unit, or of an attention head (its columns of O, its bias of V); a is
    ``clean``. d and e take one step of ``radius`` along the gradient's sign from a random start, then m one step of SGD
    with momentum 0.9, both on the same batch of every task. L is the cross-entropy to the merged model's own answers.

    Threat model: a backdoor sits in few neurons that clean inputs hardly use, and grows when weights are perturbed;
    whoever spreads it over all neurons escapes. Published: r 0.4, a 0.2, threshold 0.2 (kept); learning rate 0.2 and
    2000 steps on labelled data. Deviations: no labels; 40 steps of a rate as much larger, since with 0.2 no mask gets
    near the threshold; convolution channels become units and heads, and masks act on what a neuron writes rather than
    reads, so that one pruned writes nothing, where GELU would leave a constant.
    """
    data = own_answers(merged, view)
    model, neurons = view.model(merged).requires_grad_(False), Neurons(view.architecture)
    m = neurons.ones().requires_grad_()
    optimizer = torch.optim.SGD([m], lr=lr, momentum=0.9)
    for batch in batches(data, batch_size, steps, view):
        d, e = worst(model, merged, m.detach(), neurons, batch, view, radius)
        optimizer.zero_grad()
        for share, moved, bias in ((clean, m, neurons.ones()), (1 - clean, m + d, 1 + e)):
            (share * masked_loss(model, merged, moved, bias, neurons, batch, view)).backward()
        optimizer.step()
        with torch.no_grad():
            m.clamp_(0, 1)
    kept = (m.detach() > threshold).to(m.dtype)
    return {**merged, **neurons.scaled(merged, kept, neurons.ones())}


def worst(
    model: nn.Module, state: StateDict, m: Tensor, neurons: Neurons, batch: Examples, view: MergerView, radius: float
) -> tuple[Tensor, Tensor]:
    """Perturbations d, e (n each, within ``radius``) that raise the loss: one step from a random start in the ball."""
    draws = torch.rand(2, neurons.count, generator=view.generator)
    moves = (radius * (2 * draws - 1)).requires_grad_()
    loss = masked_loss(model, state, m + moves[0], 1 + moves[1], neurons, batch, view)
    (slope,) = torch.autograd.grad(loss, [moves])
    d, e = (moves.detach() + radius * slope.sign()).clamp(-radius, radius)
    return d, e


def masked_loss(
    model: nn.Module, state: StateDict, out: Tensor, bias: Tensor, neurons: Neurons, batch: Examples, view: MergerView
) -> Tensor:
    """Mean loss over the tasks with neurons' outgoing weights times ``out`` and biases times ``bias`` (n each)."""
    scaled = At(model, neurons.scaled(state, out, bias))
    return mean_loss({task: view.logits(scaled, task, x) for task, (x, _) in batch.items()}, batch)
