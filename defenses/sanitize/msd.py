"""MSD: every module from another source than its neighbours, so that no backdoor finds its way through."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from pydantic import PositiveInt

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.symmetry.architecture import Architecture

REACH = 2
"""How many modules ahead a module has neighbours."""
Strategy = tuple[int, ...]
"""Per module, the number of the source that it is taken from."""
Adjacency = Mapping[tuple[int, int], float]
"""Pairs of neighbours, and what it costs to take both from one source."""


@defenses.safe_merge("msd", paper="arXiv 2504.05902, alg. 1", tier="unlabelled", cost="forward")
def msd(
    models: Mapping[str, StateDict],
    view: MergerView,
    *,
    candidates: PositiveInt = 8,
    population: PositiveInt = 20,
    rounds: PositiveInt = 400,
    examples: PositiveInt = 32,
) -> StateDict:
    """Theta_j = theta_{s_j, j}: module j comes from source s_j, where the strategy s maximises

        F(s) = - sum_{i, j adjacent} [s_i = s_j] / d_ij  -  sum_t |n_t - n / T|

    Modules are layers that hold tensors; n_t of the n are source t's. Adjacent are modules of blocks that follow each
    other at a distance d_ij of at most 2, and those with the same role in consecutive blocks (d_ij = 1: the residual
    stream takes one to the other); norms and embeddings have no neighbours. Evolution: of two random members of a
    ``population`` the fitter gets a child with one module switched, which replaces the less fit; ``rounds`` times. Of
    ``candidates`` such searches the strategy is taken whose answers to ``examples`` inputs per task agree most with
    those of the task's own model.

    Threat model: a backdoor is a path through modules of one source, and switching breaks every such path where
    averaging thins it. Sources that collude share paths; every module of the malicious source that is used is used at
    full strength. Deviations: the paper's sources share one task, so that any of their modules serves it, and
    candidates are selected by how they treat a suspected class; here every source has a task of its own, and no class
    is suspected.
    """
    modules, adjacent = modules_of(view.architecture, view.base)
    sources = list(models.values())
    samples = {task: view.unlabelled(task)[:examples] for task in models}
    answers = {task: view.suite.predict(models[task], task, x).argmax(-1) for task, x in samples.items()}
    best, most = dict(view.base), -1.0
    for number in range(candidates):
        strategy = evolve(len(modules), len(sources), adjacent, population, rounds, view.generator)
        state = switched(sources, modules, strategy)
        predicted = {task: view.suite.predict(state, task, x).argmax(-1) for task, x in samples.items()}
        agreement = sum((predicted[task] == answers[task]).double().mean().item() for task in samples)
        if agreement > most:
            best, most = state, agreement
        view.progress(number + 1, candidates)
    return best


def modules_of(architecture: Architecture, base: StateDict) -> tuple[list[tuple[str, ...]], Adjacency]:
    """The keys of every module, those of the blocks first and in order, and which of them are adjacent."""
    owned: dict[str, list[str]] = {}
    for key in base:
        owned.setdefault(key.rpartition(".")[0], []).append(key)
    blocks = [
        list(dict.fromkeys(key.rpartition(".")[0] for key in (*attention.keys, *mlp.keys)))
        for attention, mlp in zip(architecture.attentions, architecture.mlps, strict=True)
    ]
    order = list(dict.fromkeys([owner for block in blocks for owner in block] + list(owned)))
    chain = [order.index(owner) for block in blocks for owner in block]
    adjacent = {
        (i, chain[at + d]): 1 / d for at, i in enumerate(chain) for d in range(1, REACH + 1) if at + d < len(chain)
    }
    for one, two in pairwise(blocks):
        adjacent.update({(order.index(a), order.index(b)): 1.0 for a, b in zip(one, two, strict=False)})
    return [tuple(owned[owner]) for owner in order], adjacent


def fitness(strategy: Strategy, sources: int, adjacent: Adjacency) -> float:
    """F: 0 at best, lower for neighbours of one source and for sources that are used more or less than others."""
    share = len(strategy) / sources
    uneven = sum(abs(strategy.count(t) - share) for t in range(sources))
    return -sum(cost for (i, j), cost in adjacent.items() if strategy[i] == strategy[j]) - uneven


def evolve(
    modules: int, sources: int, adjacent: Adjacency, population: int, rounds: int, generator: torch.Generator
) -> Strategy:
    """The fittest strategy found."""

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=generator))

    members: list[Strategy] = [tuple(draw(sources) for _ in range(modules)) for _ in range(population)]
    scores = [fitness(member, sources, adjacent) for member in members]
    for _ in range(rounds):
        worse, better = sorted((draw(population), draw(population)), key=scores.__getitem__)
        at = draw(modules)
        child = (*members[better][:at], draw(sources), *members[better][at + 1 :])
        score = fitness(child, sources, adjacent)
        # The fittest member never falls, so that more rounds never end worse.
        if worse != better or score >= scores[better]:
            members[worse], scores[worse] = child, score
    return members[max(range(population), key=scores.__getitem__)]


def switched(sources: list[StateDict], modules: list[tuple[str, ...]], strategy: Strategy) -> StateDict:
    """The model whose module j is that of source ``strategy[j]``; its tensors are the sources' own."""
    return {key: sources[s][key] for keys, s in zip(modules, strategy, strict=True) for key in keys}
