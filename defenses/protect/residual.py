"""Residual: a random order, or rotation, of the residual stream."""

from typing import Literal

import torch

from mergearena import defenses
from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView
from mergearena.bench.symmetry.architecture import Element
from mergearena.defenses.protect.gauges import random_orthogonal


@defenses.register("residual", paper="ours", preserves_function=True)
def residual(
    victim: StateDict, view: DefenderView, *, mode: Literal["permutation", "rotation"] = "permutation"
) -> StateDict:
    """One random map R of the D channels of the residual stream, in everything that writes and reads it:

        x -> R x:   W_write -> R W_write,  b_write -> R b_write,   W_read -> W_read R^T,   norms -> R norms

    ``mode=permutation``: R orders the channels at random. ``mode=rotation``: R is orthogonal, uniform; only where the
    norms divide by a length alone (RMSNorm), and their weights are first folded into the layers that read them.

    Claims: every tensor of the model moves at once, embeddings too, so matching hidden units or heads alone finds
    nothing like the base; every output is kept. Against a free-rider who merges the released weights as they are or
    aligns layer by layer, knowing the code but not the draw. Broken by ``residual-matching``, which reads R off the
    embeddings and output biases, since nothing else moves those; ``weight-matching(residual=true)`` finds permutations.
    Weak alone where a merge's coefficient is near 1: what it adds of the reordered victim still works by itself.

    A model whose output lives in its residual stream (BERT, whose heads are outside) has no such symmetry: that is an
    ArenaError, as is a rotation under LayerNorm.
    """
    stream = view.architecture.residual
    if stream is None:
        raise ArenaError(
            f"residual: the residual stream of this {view.architecture.family} model has no known symmetry, as its "
            "output lives in the stream or a tensor on it is not understood; use shuffle-heads, mergelock or params, "
            "which act inside layers"
        )
    if mode == "permutation":
        return view.architecture.apply(victim, Element(residual=torch.randperm(stream.width, generator=view.generator)))
    if not stream.rotation:
        raise ArenaError(
            f"residual(mode=rotation): the residual stream of this {view.architecture.family} model may be permuted, "
            "not rotated, which needs RMSNorm and a head that is not tied to the embedding; use mode=permutation"
        )
    return view.architecture.apply(victim, Element(residual=random_orthogonal(stream.width, view.generator)))
