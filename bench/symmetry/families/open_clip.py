"""open_clip's transformers: ``ResidualAttentionBlock`` and the vision tower around it."""

from __future__ import annotations

from torch import nn

from mergearena.bench.errors import UnsupportedArchitecture
from mergearena.bench.symmetry.channels import Axis
from mergearena.bench.symmetry.families.parts import (
    Ends,
    Layer,
    attention_shifts,
    holders,
    mlp_group,
    norm_of,
    prefixed,
    relu_scale,
    stream_writes,
    written,
)
from mergearena.bench.symmetry.heads import AttentionGroup, Block, Projection
from mergearena.bench.symmetry.shifts import Sum


def layer(path: str, module: nn.Module) -> Layer | None:
    """Fused ``in_proj``, ``mlp.c_fc`` and ``mlp.c_proj``, with a LayerNorm before each."""
    attention, mlp = getattr(module, "attn", None), getattr(module, "mlp", None)
    first, second = getattr(mlp, "c_fc", None), getattr(mlp, "c_proj", None)
    if not isinstance(attention, nn.MultiheadAttention) or not isinstance(mlp, nn.Module) or not (first and second):
        return None
    if attention.in_proj_weight is None or attention.bias_k is not None:
        raise UnsupportedArchitecture(
            f"{path}.attn: MultiheadAttention with separate or biased keys; only the fused in_proj form is known"
        )
    prefix = prefixed(path)
    h, d, model_width = attention.num_heads, attention.head_dim, attention.embed_dim
    has_bias = attention.in_proj_bias is not None

    def fused(index: int) -> Projection:
        start = index * model_width
        bias = Block(f"{prefix}attn.in_proj_bias", 0, start, h, d) if has_bias else None
        return Projection(Block(f"{prefix}attn.in_proj_weight", 0, start, h, d), bias)

    out = Projection(Block(f"{prefix}attn.out_proj.weight", 1, 0, h, d))
    group = AttentionGroup(f"{prefix}attn", h, h, d, fused(0), fused(1), fused(2), out)
    units = mlp_group(f"{prefix}mlp", first.out_features, {f"{prefix}mlp.c_fc": first}, f"{prefix}mlp.c_proj")
    scales = relu_scale(units, getattr(mlp, "gelu", None))

    shifts = attention_shifts(group, f"{prefix}attn.out_proj", attention.out_proj)
    before_attn, before_mlp = (norm_of(f"{prefix}{name}", getattr(module, name, None)) for name in ("ln_1", "ln_2"))
    gammas = tuple(Axis(f"{prefix}{name}.gamma", 0) for name in ("ls_1", "ls_2") if name in holders(module))
    if before_attn is None or before_mlp is None or holders(module).keys() - _LAYER or holders(mlp).keys() - _MLP:
        return Layer(units, group, scales, shifts=shifts)  # cross-attention, or a norm or gate that is not known
    in_proj = before_attn.read(f"{prefix}attn", "in_proj_weight", "in_proj_bias" if has_bias else "")
    qkv, fc = Axis(f"{prefix}attn.in_proj_weight", 1), Axis(f"{prefix}mlp.c_fc.weight", 1)
    return Layer(
        units,
        group,
        scales,
        (*before_attn.scales([qkv]), *before_mlp.scales([fc])),
        (
            *(*before_attn.axes, qkv, *written(f"{prefix}attn.out_proj", attention.out_proj)),
            *(*before_mlp.axes, fc, *written(f"{prefix}mlp.c_proj", second)),
            *gammas,
        ),
        shifts=(*shifts, *in_proj, *before_mlp.reads({f"{prefix}mlp.c_fc": first})),
        # A layer scale weighs the channels, so that what is written alike is not added alike.
        writes=()
        if gammas
        else stream_writes({f"{prefix}attn.out_proj": attention.out_proj, f"{prefix}mlp.c_proj": second}),
    )


def ends(path: str, module: nn.Module) -> Ends | None:
    """The vision tower: patches, class token and positions at one end, ``ln_post`` and ``proj`` at the other.

    Its output lives in the embedding space behind ``proj``. A tower that also returns its tokens, or pools them by
    attention, shows the stream itself.
    """
    own = {name for name, _ in module.named_parameters(recurse=False)}
    if own != _OWN or holders(module).keys() - {"", "ln_pre"} != _PARTS or getattr(module, "output_tokens", True):
        return None
    prefix, first = prefixed(path), norm_of(f"{prefixed(path)}ln_pre", module.ln_pre)
    last = norm_of(f"{prefix}ln_post", module.ln_post)
    if last is None or (first is None and not isinstance(module.ln_pre, nn.Identity)):
        return None
    reader = Axis(f"{prefix}proj", 0)
    embeddings = (Axis(f"{prefix}class_embedding", 0), Axis(f"{prefix}positional_embedding", 1))
    before = (*written(f"{prefix}conv1", module.get_submodule("conv1")), *embeddings, *(first.axes if first else ()))
    sums = (Sum(f"{prefix}class_embedding", f"{prefix}class_embedding", f"{prefix}positional_embedding", 0),)
    return Ends(path, (*before, *last.axes, reader), last.scales([reader]), shifts=sums)


_LAYER = {"ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2"}
_MLP = {"c_fc", "c_proj"}
_OWN = {"class_embedding", "positional_embedding", "proj"}
_PARTS = {"conv1", "transformer", "ln_post"}
