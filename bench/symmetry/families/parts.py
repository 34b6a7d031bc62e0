"""What a family of models says about its layers, and what families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mergearena.bench.symmetry.channels import Axis, MLPGroup, Residual, ScaleGroup
from mergearena.bench.symmetry.heads import AttentionGroup, Block, Projection
from mergearena.bench.symmetry.shifts import KeyBias, NormRead, Shift, StreamWrite, Sum, ValueBias


@dataclass(frozen=True)
class Layer:
    """One transformer layer."""

    mlp: MLPGroup
    attention: AttentionGroup
    scales: tuple[ScaleGroup, ...] = ()
    """The linear branch of the MLP, if it has one."""
    norms: tuple[ScaleGroup, ...] = ()
    stream: tuple[Axis, ...] | None = None
    """Every axis on the residual stream; None if that is not known."""
    apart: tuple[str, ...] = ()
    """Tensors that touch neither the stream nor a group, such as the weights of QK-norms."""
    rms: bool = False
    """Whether its norms divide by the length alone, so that the stream may be rotated."""
    shifts: tuple[Shift, ...] = ()
    writes: tuple[StreamWrite, ...] = ()
    """Shifts of what it writes to a stream that LayerNorms alone read, if its ends are known to say so."""
    follows: Follows | None = None
    """What reads the output of the layer before it as it is."""
    last: Norm | None = None
    """The norm that its own output has gone through."""


@dataclass(frozen=True)
class Follows:
    """Linear layers that read what a norm of another module has written."""

    norm: str
    """Its path."""
    readers: Mapping[str, nn.Module]
    """By path."""


@dataclass(frozen=True)
class Ends:
    """A model's embeddings, final norm and head."""

    path: str
    """The module that has them; empty for the model itself."""
    stream: tuple[Axis, ...] | None
    """Every axis on the residual stream; None if that is not known."""
    norms: tuple[ScaleGroup, ...] = ()
    head: tuple[str, ...] = ()
    """Linear modules that read the stream and write the output."""
    apart: tuple[str, ...] = ()
    rotation: bool = False
    """Whether nothing here forbids to rotate the stream."""
    shifts: tuple[Shift, ...] = ()
    last: Norm | None = None
    """The norm that embeddings have gone through before the first layer reads them."""


@dataclass(frozen=True)
class Family:
    """How to find a family's layers and ends: functions of a path and its module, None where it is not one."""

    layer: Callable[[str, nn.Module], Layer | None]
    ends: Callable[[str, nn.Module], Ends | None]


@dataclass(frozen=True)
class Norm:
    """A LayerNorm or RMSNorm over the residual stream: its weight and bias, where it has them."""

    path: str
    axes: tuple[Axis, ...]
    width: int
    rms: bool

    def reads(self, readers: Mapping[str, nn.Module]) -> tuple[NormRead, ...]:
        """Shifts of the linear layers at these paths, which read this norm and nothing else."""
        return tuple(
            read
            for path, reader in readers.items()
            for read in self.read(path, "weight", "bias" if biased(reader) else "")
        )

    def read(self, path: str, weight: str, bias: str) -> tuple[NormRead, ...]:
        """The shift of one reader, whose tensors are called so; none without a bias to make up for this norm's."""
        if self.rms or (not bias and len(self.axes) == 2):
            return ()
        scale, offset = ([*(axis.key for axis in self.axes), None, None])[:2]
        prefix = prefixed(path)
        return (NormRead(path, Axis(f"{prefix}{weight}", 1), f"{prefix}{bias}" if bias else None, scale, offset),)

    def scales(self, readers: Sequence[Axis]) -> tuple[ScaleGroup, ...]:
        """The trade of scale between this norm and the columns of all layers that read it."""
        return (ScaleGroup(self.path, self.width, self.axes, tuple(readers)),) if self.axes else ()


def residual_of(model: nn.Module, layers: Sequence[Layer], ends: Sequence[Ends]) -> Residual | None:
    """The residual stream if every tensor of the model is known to be on it or not, and its output is not on it."""
    if len(ends) != 1 or ends[0].path or ends[0].stream is None:
        return None
    end, axes, apart = ends[0], [*ends[0].stream], {*ends[0].apart}
    for layer in layers:
        if layer.stream is None:
            return None
        axes += layer.stream
        apart.update(layer.mlp.keys, layer.attention.keys, layer.apart)
    state = model.state_dict()
    width = state[axes[0].key].shape[axes[0].dim]
    if state.keys() - apart - {a.key for a in axes} or any(state[a.key].shape[a.dim] != width for a in axes):
        return None
    norms = (*(norm for layer in layers for norm in layer.norms), *end.norms)
    return Residual("residual", width, tuple(axes), norms, end.rotation and all(layer.rms for layer in layers))


def shifts_of(layers: Sequence[Layer], ends: Sequence[Ends], residual: Residual | None) -> tuple[Shift, ...]:
    """Everything that may be added to a model of these parts, so that none moves what one before it reads."""
    found = [*(s for end in ends for s in end.shifts), *(s for layer in layers for s in layer.shifts)]
    if residual is not None and not any(layer.rms for layer in layers):
        found += [write for layer in layers for write in layer.writes]
    lasts = (*(end.last for end in ends), *(layer.last for layer in layers))
    norms = {norm.path: norm for norm in lasts if norm is not None}
    for layer in layers:
        if layer.follows is not None and layer.follows.norm in norms:
            found += norms[layer.follows.norm].reads(layer.follows.readers)
    return tuple(sorted(found, key=lambda shift: _ORDER.index(type(shift))))


_ORDER = (Sum, NormRead, KeyBias, ValueBias, StreamWrite)
"""A read moves biases of keys and values, and a value's bias moves what is written."""


def attention_shifts(group: AttentionGroup, out: str, linear: nn.Module) -> tuple[Shift, ...]:
    """The free biases of an attention layer whose output projection is the linear layer at ``out``."""
    keys = (KeyBias(f"{group.name}.keys", group),) if group.k.bias is not None and group.qk == "free" else ()
    if group.v.bias is None or not biased(linear):
        return keys
    return (*keys, ValueBias(f"{group.name}.values", group, f"{prefixed(out)}bias"))


def stream_writes(linears: Mapping[str, nn.Module]) -> tuple[StreamWrite, ...]:
    """Shifts of what the linear layers at these paths write to a stream that LayerNorms alone read."""
    return tuple(
        StreamWrite(path, Axis(f"{path}.weight", 0), f"{path}.bias" if biased(linear) else None)
        for path, linear in linears.items()
    )


def biased(linear: nn.Module) -> bool:
    """Whether a linear layer has a bias."""
    return getattr(linear, "bias", None) is not None


def mlp_group(name: str, width: int, linears: Mapping[str, nn.Module], out: str) -> MLPGroup:
    """The hidden units that the linear layers at these paths write and the one at ``out`` reads."""
    rows = tuple(axis for path, linear in linears.items() for axis in written(path, linear))
    return MLPGroup(name, width, (*rows, Axis(f"{out}.weight", 1)))


def relu_scale(mlp: MLPGroup, activation: object) -> tuple[ScaleGroup, ...]:
    """Under ReLU every unit of a plain MLP has a free positive scale."""
    if not isinstance(activation, nn.ReLU):
        return ()
    return (ScaleGroup(mlp.name, mlp.width, mlp.axes[:-1], mlp.axes[-1:], signed=False),)


def written(path: str, linear: nn.Module) -> tuple[Axis, ...]:
    """The axes over a linear layer's outputs: its weight's rows and its bias."""
    bias = (Axis(f"{path}.bias", 0),) if biased(linear) else ()
    return (Axis(f"{path}.weight", 0), *bias)


def projection(path: str, linear: nn.Module, heads: int, width: int) -> Projection:
    """Q, K or V as a linear layer of its own."""
    bias = Block(f"{path}.bias", 0, 0, heads, width) if biased(linear) else None
    return Projection(Block(f"{path}.weight", 0, 0, heads, width), bias)


def prefixed(path: str) -> str:
    """The prefix of the names below a module."""
    return f"{path}." if path else ""


def holders(module: nn.Module) -> dict[str, nn.Module]:
    """The children that hold tensors of the state dict, by name; "" is the module itself if it holds some."""
    own = {"": module} if {*module._parameters, *module._buffers} - module._non_persistent_buffers_set else {}
    return own | {name: child for name, child in module.named_children() if child.state_dict()}


def norm_of(path: str, module: object) -> Norm | None:
    """A norm over one axis, x -> w * normalised(x) + b, or None if it is something else."""
    if isinstance(module, nn.LayerNorm):
        if len(module.normalized_shape) != 1:
            return None
        names = [name for name in ("weight", "bias") if getattr(module, name) is not None]
        return Norm(path, tuple(Axis(f"{path}.{name}", 0) for name in names), module.normalized_shape[0], rms=False)
    if not isinstance(module, nn.Module) or [*module.state_dict()] != ["weight"]:
        return None
    weight = module.weight
    if not isinstance(weight, Tensor) or weight.ndim != 1 or weight.is_meta or not _divides_by_length(module, weight):
        return None
    return Norm(path, (Axis(f"{path}.weight", 0),), len(weight), rms=True)


@torch.no_grad()
def _divides_by_length(module: nn.Module, weight: Tensor) -> bool:
    """Whether a module computes w * x / rms(x). Asked of the module, as some scale by 1 + w under the same names."""
    x = torch.linspace(-1, 2, len(weight), dtype=weight.dtype, device=weight.device)
    wanted = weight * x / x.square().mean().sqrt()
    return torch.allclose(module(x), wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))
