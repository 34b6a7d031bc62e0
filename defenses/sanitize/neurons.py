"""A model's neurons, each with a factor on what it writes and one on its bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mergearena.bench.symmetry.architecture import Architecture


class _Axis(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def dim(self) -> int: ...


class Neurons:
    """The hidden units of every MLP, then the query heads of every attention layer: n in all."""

    def __init__(self, architecture: Architecture) -> None:
        """Take the symmetry map, which says where they are."""
        self.mlps, self.attentions = architecture.mlps, architecture.attentions
        self._widths = [*(mlp.width for mlp in self.mlps), *(layer.heads for layer in self.attentions)]
        self.count = sum(self._widths)

    def scaled(self, state: Mapping[str, Tensor], out: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """The tensors that neurons own, neuron i's outgoing weights times ``out[i]`` and its bias times ``bias[i]``.

        A head's outgoing weights are its columns of O, its bias that of V; where query heads share keys and values,
        the shared bias is multiplied by the mean of their factors. Differentiable in ``out`` and ``bias`` (n each).

        Returns:
            Only the tensors that change, by key; those of ``state`` are left as they were.
        """
        scaled: dict[str, Tensor] = {}

        def multiply(axis: _Axis, factor: Tensor, start: int = 0) -> None:
            value = scaled.get(axis.key, state[axis.key])
            whole = F.pad(factor, (start, value.shape[axis.dim] - start - len(factor)), value=1.0).to(value.dtype)
            scaled[axis.key] = value * whole.view([-1 if i == axis.dim else 1 for i in range(value.ndim)])

        parts = list(zip(out.split(self._widths), bias.split(self._widths), strict=True))
        for mlp, (o, b) in zip(self.mlps, parts[: len(self.mlps)], strict=True):
            *incoming, outgoing = mlp.axes
            multiply(outgoing, o)
            for axis in incoming:
                if state[axis.key].ndim == 1:
                    multiply(axis, b)
        for layer, (o, b) in zip(self.attentions, parts[len(self.mlps) :], strict=True):
            block = layer.o.weight
            multiply(block, o.repeat_interleave(block.width), block.start)
            if (held := layer.v.bias) is not None:
                shared = b.view(layer.kv_heads, -1).mean(1)
                multiply(held, shared.repeat_interleave(held.width), held.start)
        return scaled

    def ones(self) -> Tensor:
        """A factor of 1 for each."""
        return torch.ones(self.count)
