"""Hugging Face's decoders in the manner of Llama (Mistral, Qwen2, Qwen3): RoPE, grouped queries, gated MLP, RMSNorm."""

from __future__ import annotations

import sys
from typing import Literal

import torch
from torch import nn

from mergearena.bench.errors import UnsupportedArchitecture
from mergearena.bench.symmetry.channels import Axis, ScaleGroup
from mergearena.bench.symmetry.families.parts import (
    Ends,
    Layer,
    attention_shifts,
    holders,
    mlp_group,
    norm_of,
    prefixed,
    projection,
    written,
)
from mergearena.bench.symmetry.heads import AttentionGroup, Block, Projection


def layer(path: str, module: nn.Module) -> Layer | None:
    """The decoder layer: x + attention(norm(x)), then x + mlp(norm(x)).

    Raises:
        UnsupportedArchitecture: its attention has tensors that are not known, or rotates other pairs of channels.
    """
    attention, mlp = getattr(module, "self_attn", None), getattr(module, "mlp", None)
    if not isinstance(attention, nn.Module) or not isinstance(mlp, nn.Module):
        return None
    parts = holders(mlp)
    if parts.keys() != {*_MLP} or not all(isinstance(part, nn.Linear) for part in parts.values()):
        return None
    prefix = prefixed(path)
    d, qk = _head_width(f"{prefix}self_attn", attention)
    q, k, v, o = (getattr(attention, name) for name in _ATTENTION)
    h, g = q.out_features // d, k.out_features // d
    group = AttentionGroup(
        f"{prefix}self_attn",
        h,
        g,
        d,
        projection(f"{prefix}self_attn.q_proj", q, h, d),
        projection(f"{prefix}self_attn.k_proj", k, g, d),
        projection(f"{prefix}self_attn.v_proj", v, g, d),
        Projection(Block(f"{prefix}self_attn.o_proj.weight", 1, 0, h, d)),
        qk,
    )
    gate, up, down = (f"{prefix}mlp.{name}" for name in _MLP)
    width = len(parts["up_proj"].get_parameter("weight"))
    units = mlp_group(f"{prefix}mlp", width, {gate: parts["gate_proj"], up: parts["up_proj"]}, down)
    shifts = attention_shifts(group, f"{prefix}self_attn.o_proj", o)
    linear_branch = ScaleGroup(units.name, width, written(up, parts["up_proj"]), (Axis(f"{down}.weight", 1),))

    before_attn, before_mlp = (norm_of(f"{prefix}{name}", getattr(module, name, None)) for name in _NORMS)
    if before_attn is None or before_mlp is None or holders(module).keys() != {"self_attn", "mlp", *_NORMS}:
        return Layer(units, group, (linear_branch,), shifts=shifts)
    qkv = [Axis(f"{prefix}self_attn.{name}.weight", 1) for name in _ATTENTION[:3]]
    fc = [Axis(f"{gate}.weight", 1), Axis(f"{up}.weight", 1)]
    outputs = (*written(f"{prefix}self_attn.o_proj", o), *written(down, parts["down_proj"]))
    return Layer(
        units,
        group,
        (linear_branch,),
        (*before_attn.scales(qkv), *before_mlp.scales(fc)),
        (*before_attn.axes, *qkv, *before_mlp.axes, *fc, *outputs),
        tuple(f"{prefix}self_attn.{name}.weight" for name in _QK_NORMS if name in holders(attention)),
        before_attn.rms and before_mlp.rms,
        shifts,
    )


def ends(path: str, module: nn.Module) -> Ends | None:
    """The embedding, the final norm and a linear head: a language model's or a sequence classifier's.

    A head tied to the embedding reads and writes the stream with one tensor: it may be permuted, but neither rotated
    (only the head would take over the norm's weight) nor rescaled. A bare decoder's output is its stream.
    """
    inner = getattr(module, "model", None)
    heads = holders(module).keys() & {"lm_head", "score"}
    if not isinstance(inner, nn.Module) or len(heads) != 1 or holders(module).keys() != {"model", *heads}:
        return None
    prefix, name = prefixed(path), heads.pop()
    embedding, head = getattr(inner, "embed_tokens", None), getattr(module, name)
    last = norm_of(f"{prefix}model.norm", getattr(inner, "norm", None))
    if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Linear):
        return None
    if holders(inner).keys() != {"embed_tokens", "layers", "norm"} or last is None:
        return Ends(path, None, head=(f"{prefix}{name}",))
    tied = head.weight is embedding.weight
    reader = Axis(f"{prefix}{name}.weight", 1)
    return Ends(
        path,
        (Axis(f"{prefix}model.embed_tokens.weight", 1), *last.axes, reader),
        () if tied else last.scales([reader]),
        (f"{prefix}{name}",),
        (f"{prefix}{name}.bias",),
        rotation=last.rms and not tied,
    )


def _head_width(path: str, attention: nn.Module) -> tuple[int, Literal["rotary", "fixed"]]:
    """The head width d of an attention layer, and which maps between Q and K it allows."""
    parts = holders(attention)
    unknown = parts.keys() - {*_ATTENTION, *_QK_NORMS}
    if unknown or not {*_ATTENTION} <= parts.keys():
        raise UnsupportedArchitecture(f"{path}: attention with tensors {', '.join(sorted(parts))}; {_REMEDY}")
    d = getattr(attention, "head_dim", 0)
    wide = [parts[name].get_parameter("weight").shape for name in _ATTENTION]
    if not d or any(rows % d for rows, _ in wide[:3]) or wide[1] != wide[2] or wide[3][1] != wide[0][0]:
        raise UnsupportedArchitecture(
            f"{path}: Q, K, V, O of shapes {[tuple(w) for w in wide]} do not split into heads; {_REMEDY}"
        )
    norms = [part for name, part in parts.items() if name in _QK_NORMS]
    if any(norm.weight.shape != (d,) for norm in norms):
        raise UnsupportedArchitecture(f"{path}: QK-norms over more than one head; {_REMEDY}")
    if norms:
        return d, "fixed"
    if not _rotates_halves(attention, d):
        raise UnsupportedArchitecture(f"{path}: its rotary embedding does not pair channel i with i + d/2; {_REMEDY}")
    return d, "rotary"


def _rotates_halves(attention: nn.Module, d: int) -> bool:
    """Whether the model's rotary embedding turns channels i and i + d/2 together, over the whole head."""
    rotate = getattr(sys.modules[type(attention).__module__], "rotate_half", None)
    config = getattr(attention, "config", None)
    rope = getattr(config, "rope_parameters", None) or {}
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    if rotate is None or share != 1.0 or getattr(config, "clip_qkv", None) is not None:
        return False
    x = torch.arange(1.0, d + 1)
    return torch.equal(rotate(x), torch.cat([-x[d // 2 :], x[: d // 2]]))


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_QK_NORMS = ("q_norm", "k_norm")
_MLP = ("gate_proj", "up_proj", "down_proj")
_NORMS = ("input_layernorm", "post_attention_layernorm")
_REMEDY = "teach bench/families/llama.py this kind"
