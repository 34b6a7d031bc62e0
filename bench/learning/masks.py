"""Concrete masks: which entries of task vectors to keep, learned by gradient descent (arXiv 1611.00712; 2312.06173).

A mask is one logit a per entry. A sample is soft, so that gradients flow to the logits, and mostly near 0 or 1:

    m = sigmoid((a + log u - log(1 - u)) / T),   u uniform in (0, 1),   T = 1/2

Masks are rescaled to mean 1 per tensor, so that masking a task vector does not shorten it on average; a mask whose
logits are equal throughout a tensor keeps that tensor as it is, in expectation. State dicts here hold one tensor per
masked tensor, of its shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.vectors import working_dtype

TEMPERATURE = 0.5
"""At this one :func:`concrete_mean` has a closed form."""


def zero_logits(base: StateDict) -> StateDict:
    """Logits of a mask that prefers nothing, leaves for an optimiser: zeros for every floating-point tensor."""
    return {
        key: torch.zeros_like(value, dtype=working_dtype(value), requires_grad=True)
        for key, value in base.items()
        if value.is_floating_point()
    }


def sampled(logits: StateDict, generator: torch.Generator) -> StateDict:
    """A rescaled sample, differentiable in the logits; who gives the same generator gets the same sample."""
    return {key: rescaled(concrete(a, generator)) for key, a in logits.items()}


def expected(logits: StateDict) -> StateDict:
    """The rescaled expectation: what a mask that is deployed should be, since a sample would be one of many.

    That is E[m] / mean(E[m]). It differs from E[m / mean(m)] by O(1/n) on a tensor of n entries.
    """
    return {key: rescaled(concrete_mean(a.detach())) for key, a in logits.items()}


def product(masks: Sequence[StateDict]) -> StateDict:
    """Several masks of the same tensors, at least one, entry by entry."""
    return {key: torch.stack([mask[key] for mask in masks]).prod(0) for key in masks[0]}


def rescaled(mask: Tensor) -> Tensor:
    """The mask divided by its mean."""
    return mask / mask.mean()


def concrete(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One binary-concrete variable per logit, at the temperature 1/2, differentiable in the logit."""
    u = torch.rand(logits.shape, dtype=logits.dtype, generator=generator)
    # A draw of exactly 0 would have an infinite logit.
    u = u.clamp_(torch.finfo(u.dtype).eps, 1 - torch.finfo(u.dtype).eps).to(logits.device)
    return ((logits + u.logit()) / TEMPERATURE).sigmoid()


def concrete_mean(logits: Tensor) -> Tensor:
    """The expectation of a binary-concrete variable with logit a at the temperature 1/2, in closed form:

    E = integral over u in (0, 1) of c u^2 / (c u^2 + (1 - u)^2) = s (1 + (1 - s) (2a - pi sinh a)),
    c = e^2a,  s = sigmoid(2a)
    """
    # E(-a) = 1 - E(a); for a <= 0 nothing overflows, with s sinh a = e^a tanh(a) / 2.
    a = -logits.abs()
    s = torch.sigmoid(2 * a)
    mean = s + (1 - s) * (2 * a * s - math.pi * a.exp() * a.tanh() / 2)
    return torch.where(logits > 0, 1 - mean, mean)
