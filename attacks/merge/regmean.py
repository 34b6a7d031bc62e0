"""RegMean: linear layers merged by least squares."""

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.attacks.merge.scaled import Share
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import average
from mergearena.bench.players.views import MergingView

RIDGE = 1e-6
"""Added to a Gram matrix, relative to its mean diagonal entry, so that it can be inverted."""


@attacks.merger("regmean", paper="arXiv 2212.09849, eq. 2", tier="unlabelled", cost="forward")
def regmean(
    models: Mapping[str, StateDict], view: MergingView, *, examples: PositiveInt = 256, off_diagonal: Share = 0.95
) -> StateDict:
    """Per linear layer, the weights whose outputs are nearest to every model's on that model's own inputs:

        W = argmin sum_t |X_t W^T - X_t W_t^T|^2 = (sum_t W_t G_t) (sum_t G_t)^-1,   G_t = X_t^T X_t,   W: out x in

    X_t are the layer's inputs in model t over ``examples`` unlabelled inputs of its own task, one row per position.
    Off-diagonal entries of every G_t are first multiplied by ``off_diagonal`` (the paper: 0.1 to 0.9, by model). All
    other tensors, biases too, are averaged. Fused attention counts as two linear layers: the input projection reads
    the attention's input, the output projection what the heads computed. Solved in float64 around the average A, as
    W = A + (sum_t (W_t - A) G_t) (sum_t G_t)^-1, so that directions no example excites stay averaged. Deviation:
    padded positions of texts count as rows.
    """
    seen = limited(view, examples)
    grams = [gram_matrices(state, task, seen.unlabelled(task), view) for task, state in models.items()]
    merged = average(list(models.values()))
    for key in grams[0]:
        merged[key] = nearest([state[key] for state in models.values()], [g[key] for g in grams], off_diagonal)
    return merged


def nearest(
    weights_oi: Sequence[Tensor], grams_ii: Sequence[Tensor], off_diagonal: float, ridge: float = RIDGE
) -> Tensor:
    """The least-squares weights of one layer, out x in, from T weights (out x in) and T Gram matrices (in x in).

    ``ridge`` is relative to the mean diagonal entry of the sum of the Gram matrices.
    """
    mean = torch.stack(list(weights_oi)).double().mean(0)
    total = torch.zeros_like(grams_ii[0], dtype=torch.float64)
    pull = torch.zeros_like(mean)
    for weight, gram in zip(weights_oi, grams_ii, strict=True):
        shrunk = gram.diagonal().diag().double().lerp(gram.double(), off_diagonal)
        total += shrunk
        pull += (weight.double() - mean) @ shrunk
    added = ridge * total.diagonal().mean()
    if added > 0:
        total.diagonal().add_(added)
        mean += torch.linalg.solve(total, pull, left=False)
    return mean.to(weights_oi[0].dtype)


@torch.no_grad()
def gram_matrices(
    state: StateDict, task: str, inputs: Tensor, view: MergingView, only: Container[str] | None = None
) -> StateDict:
    """G = X^T X (in x in, float64) of every linear layer, by the key of its weight, in the order of the forward pass.

    Of those in ``only``, where it is given.
    """
    model = view.model(state)
    keys = {id(parameter): key for key, parameter in model.named_parameters()}
    grams: StateDict = {}

    def count(weight: Tensor, rows: Tensor) -> None:
        key = keys[id(weight)]
        if only is not None and key not in only:
            return
        rows = rows.flatten(0, -2)
        grams[key] = grams.get(key, 0) + (rows.mT @ rows).double()

    def watch_attention(layer: nn.MultiheadAttention) -> None:
        # The fused kernel calls neither projection as a module, so a twin without the output projection says what it
        # would have read.
        twin = copy.deepcopy(layer)
        twin.out_proj.weight.copy_(torch.eye(layer.embed_dim))
        if twin.out_proj.bias is not None:
            twin.out_proj.bias.zero_()

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], __: object) -> None:
            query, key, value = (*args, *(kwargs.get(name) for name in ("query", "key", "value")[len(args) :]))[:3]
            if layer.in_proj_weight is not None and query is key and key is value:
                count(layer.in_proj_weight, query)
            count(layer.out_proj.weight, twin(*args, **kwargs)[0])

        layer.register_forward_hook(hook, with_kwargs=True)

    for module in list(model.modules()):
        if isinstance(module, nn.MultiheadAttention):
            watch_attention(module)
        elif isinstance(module, nn.Linear):
            module.register_forward_hook(lambda m, args, _: count(m.weight, args[0]))
    for (batch,) in view.suite.batches(inputs):
        view.outputs(model, task, batch)
    return grams
