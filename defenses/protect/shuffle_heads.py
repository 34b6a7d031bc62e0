"""Shuffle heads: a random order of attention heads."""

from dataclasses import replace

import torch
from torch import Tensor

from mergearena import defenses
from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.heads import Gauge


@defenses.register("shuffle-heads", paper="ours", preserves_function=True)
def shuffle_heads(victim: StateDict, view: DefenderView) -> StateDict:
    """Per attention layer a random permutation P of its heads, uniform among those that are not the identity:

        (Q, K, V)_i -> (Q, K, V)_P(i),   O = [O_1 ... O_g] -> [O_P(1) ... O_P(g)]

    where the query heads of a group (GQA) move with the key/value head that they share.

    Claims: a merge averages heads that do different things, while every output is kept; no arithmetic, so nothing is
    rounded. Against a free-rider who merges the released weights as they are or solves for each head's gauge in
    place, knowing the code but not the draw. Broken by ``head-matching``, which compares what heads compute. Weak
    alone: heads may stay in place by chance, and a merge with a coefficient near 1 keeps most of the shuffled victim.

    A model with one key/value head in every layer has nothing to shuffle: that is an ArenaError.
    """
    architecture = view.architecture
    gauges = {
        group.name: replace(Gauge.identity(group), order=_moving_order(group.kv_heads, view.generator))
        for group in architecture.attentions
        if group.kv_heads > 1
    }
    if not gauges:
        raise ArenaError(
            f"shuffle-heads: every attention layer of this {architecture.family} model has a single key/value head, so "
            "there is no order to change; use mergelock or params, which act inside a head"
        )
    return architecture.apply(victim, Element({}, gauges))


def _moving_order(heads: int, generator: torch.Generator) -> Tensor:
    """A random order of at least two heads that is not the identity."""
    while True:
        order = torch.randperm(heads, generator=generator)
        if not torch.equal(order, torch.arange(heads)):
            return order
