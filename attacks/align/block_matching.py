"""Block matching: undo an exchange of whole blocks, whatever was done inside each."""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.merging.vectors import working_dtype
from mergearena.bench.symmetry.architecture import reordered
from mergearena.bench.symmetry.assignment import assign
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.channels import MLPGroup, ScaleGroup
from mergearena.bench.symmetry.heads import AttentionGroup

Kinds = list[Tensor]
"""What is compared of one block."""
Layers = Sequence[AttentionGroup | MLPGroup]


@attacks.aligner("block-matching", paper="ours", cost="algebra")
def block_matching(
    released: StateDict, view: AttackerView, *, evidence: Annotated[float, Field(ge=0, le=2)] = 0.1
) -> StateDict:
    """The order in which the released model's attention layers, and its MLPs, are most like the base's:

        order = argmax_order sum_i  cos(F0_i - mean_j F0_j, F_order(i) - mean_j F_j),   |F| = 1,  by linear assignment
        attention:  F = sum_heads [W_Q b_Q]^T W_K,  and F = sum_heads W_V^T W_O
        MLP:        F = X^T Y for every two of its matrices (units x D) whose scales cancel; the cosines are averaged

    Place i gets the tensors of block order(i) as they are. F does not depend on the order of heads or units, on gauges
    or on free scales, so this comes before the aligners that compare blocks place by place; an orthogonal mixture of a
    plain MLP's units leaves F as it is too. The mean takes away what all blocks share. Only blocks of one shape change
    places; norms and output biases stay. All stay unless the places that change gain ``evidence`` of cosine on average:
    unrelated matrices reach less, and a block that was trained where it landed keeps more of its likeness.

    Blocks out of order are no symmetry, so the function changes. Under a residual stream that was permuted too, F says
    nothing: put ``residual-matching`` first.
    """
    released = balanced(released, view.base, view.architecture)
    moved = dict(released)
    for layers, (base, ours) in _described(view, released):
        orders = list(range(len(layers)))
        for places in _alike(layers, released):
            gain_ll = similarities([base[i] for i in places], [ours[i] for i in places])
            order, stay = assign(gain_ll).order, torch.arange(len(places))
            gained = (gain_ll[stay, order] - gain_ll.diagonal())[order != stay]
            if len(gained) and gained.mean() > evidence:
                for place, source in zip(places, order.tolist(), strict=True):
                    orders[place] = places[source]
        moved = reordered(layers, moved, orders)
    return moved


def _described(view: AttackerView, released: StateDict) -> Iterator[tuple[Layers, list[list[Kinds]]]]:
    """The attention layers, then the MLPs, and every F of each in the base and in the released model."""
    states, scales = (view.base, released), {scale.name: scale for scale in view.architecture.scales}
    heads, mlps = view.architecture.attentions, view.architecture.mlps
    yield heads, [[circuits(x, state) for x in heads] for state in states]
    yield mlps, [[products(x, scales.get(x.name), state) for x in mlps] for state in states]


def circuits(group: AttentionGroup, state: StateDict) -> Kinds:
    """Q^T K (r x D, with Q's bias) and O^T V (D x D), summed over heads."""
    q, k, v, o = (
        side.read(state).to(working_dtype(state[group.q.weight.key])).unflatten(0, (group.kv_heads, -1))
        for side in (group.q, group.k.weight, group.v.weight, group.o)
    )
    return [torch.einsum("gmdr,gnds->rs", first, second) for first, second in ((q, k), (o, v))]


def products(group: MLPGroup, scale: ScaleGroup | None, state: StateDict) -> Kinds:
    """X^T Y (D x D) for every two matrices of an MLP that together keep no scale of a unit."""
    matrices = [axis for axis in group.axes if state[axis.key].ndim == 2]
    power = {axis: (axis in scale.times) - (axis in scale.over) if scale is not None else 0 for axis in matrices}
    rows = {axis: axis.rows(state).to(working_dtype(state[axis.key])) for axis in matrices}
    return [rows[x].T @ rows[y] for x, y in combinations_with_replacement(matrices, 2) if not power[x] + power[y]]


def similarities(base: Sequence[Kinds], ours: Sequence[Kinds]) -> Tensor:
    """The cosine of base block i and released block k, each centred over the L blocks, mean over kinds of F, L x L."""
    cosines = [
        _centred(theirs_l) @ _centred(ours_l).T
        for theirs_l, ours_l in zip(zip(*base, strict=True), zip(*ours, strict=True), strict=True)
    ]
    return torch.stack(cosines).mean(0).cpu()


def _centred(matrices: Sequence[Tensor]) -> Tensor:
    """Each flattened, made of length one, its distance from their mean again made of length one (or zero), L x f."""
    flat_lf = F.normalize(torch.stack([matrix.flatten() for matrix in matrices]), dim=1)
    return F.normalize(flat_lf - flat_lf.mean(0), dim=1)


def _alike(layers: Layers, state: StateDict) -> list[list[int]]:
    """Which layers have tensors of equal shapes, as indices."""
    shaped: dict[tuple[torch.Size, ...], list[int]] = {}
    for index, layer in enumerate(layers):
        shaped.setdefault(tuple(state[key].shape for key in layer.keys), []).append(index)
    return [*shaped.values()]
