"""MergeLock: a random invertible map on both branches of every attention head."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.heads import Gauge
from mergearena.defenses.protect.gauges import bounded, log_uniform


@defenses.register("mergelock")
class MergeLock(Defense):
    """Two random pairs of invertible matrices per head, one on QK and one on VO; MLPs stay as they are:

        Q -> A Q,  K -> A^-T K,   V -> B V,  O -> O B^-1,   A, B = D P R

    R is random (normal entries of variance 1/d), P a permutation of the d channels, D a scaling, log-uniform in
    [1/spread, spread].

    Claims: the output is unchanged while the weights leave the parameter space that fine-tuned models share; merging
    loses over 95 % in most cases, and cheap restoration afterwards does not bring it back. Against a free-rider who
    merges the released weights as they are, knowing the code but not the draw. Broken by ``gauge-anchor``, which
    solves for A and B from the public base; neither ``rotation-matching`` (orthogonal maps) nor
    ``scale-normalization`` (diagonal ones) suffices.

    Deviations: the three factors are the paper's; their order and ranges are not known to us and are ours. So is a
    bound on the condition number of A and B: singular values below 1/condition of the largest are raised to it. What
    breaks a merge is the weakest directions of A, whose partners grow by the inverse, and they also cost precision: at
    100 a chain with ``params(scaling=nonsymmetric)`` still keeps the function to 1e-3 in float32.
    Under rotary embeddings A is projected on the maps that commute with them, one complex number per pair of channels,
    so that P is lost there; under QK-norm A is the identity and only V and O are locked.
    """

    paper = "arXiv 2509.01548"
    preserves_function = True

    class Config(DefenseConfig):
        """How far the weights go."""

        spread: Annotated[float, Field(ge=1, le=100)] = 3.0
        """Scales are log-uniform in [1/spread, spread]."""
        condition: Annotated[float, Field(ge=1, le=1e4)] = 100.0
        """Largest condition number of A and B: higher breaks merges more, and costs precision."""

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The locked model."""
        gauges = {}
        for group in view.architecture.attentions:
            a, b = (
                torch.stack([self._product(group.width, view.generator) for _ in range(group.kv_heads)]) for _ in "ab"
            )
            gauges[group.name] = Gauge(
                bounded(group.nearest_admissible(a), self.config.condition),
                bounded(b, self.config.condition),
                torch.arange(group.kv_heads),
            )
        return view.architecture.apply(victim, Element({}, gauges))

    def _product(self, width: int, generator: torch.Generator) -> Tensor:
        """D P R, d x d, float64."""
        random = torch.randn(width, width, generator=generator, dtype=torch.float64) / math.sqrt(width)
        order = torch.randperm(width, generator=generator)
        scale = log_uniform(1 / self.config.spread, self.config.spread, width, generator)
        return scale[:, None] * random[order]
