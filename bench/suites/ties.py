"""Tied weights: one tensor that a state dict holds under several names, such as a head that is the embedding.

To whoever merges, draws or switches tensor by tensor it is one tensor: under two names it would become two, of which a
model that loads them keeps the last alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mergearena.bench.files.checkpoints import StateDict

Ties = Mapping[str, str]
"""Every further name of a tensor -> its first."""


def ties_of(model: nn.Module) -> Ties:
    """The names in a module's state dict that share a tensor."""
    first: dict[int, str] = {}
    tensors = model.state_dict(keep_vars=True)
    return {key: first[id(value)] for key, value in tensors.items() if first.setdefault(id(value), key) != key}


def single(state: Mapping[str, Tensor], ties: Ties) -> StateDict:
    """The state with every tensor under its first name alone, with what a model loads: the last name's value."""
    kept = {key: value for key, value in state.items() if key not in ties}
    return {**kept, **{first: state[key] for key, first in ties.items() if key in state}}


def whole(state: Mapping[str, Tensor], ties: Ties) -> StateDict:
    """The state with every tensor under all its names."""
    return {**state, **{key: state[first] for key, first in ties.items() if key not in state}}
