"""Hugging Face's BERT encoders (MiniLM, ...)."""

from __future__ import annotations

from torch import nn

from mergearena.bench.symmetry.families.parts import (
    Ends,
    Follows,
    Layer,
    attention_shifts,
    holders,
    mlp_group,
    norm_of,
    prefixed,
    projection,
    relu_scale,
    stream_writes,
)
from mergearena.bench.symmetry.heads import AttentionGroup, Block, Projection
from mergearena.bench.symmetry.shifts import Sum


def layer(path: str, module: nn.Module) -> Layer | None:
    """BertLayer: separate query, key, value; ``intermediate.dense`` and ``output.dense``.

    It normalises *after* adding to the stream, so its norms write the stream and trade no scale with readers.
    """
    inner = getattr(getattr(module, "attention", None), "self", None)
    intermediate = getattr(module, "intermediate", None)
    first = getattr(intermediate, "dense", None)
    if inner is None or first is None or not hasattr(inner, "num_attention_heads"):
        return None
    prefix = prefixed(path)
    h, d = inner.num_attention_heads, inner.attention_head_size
    query, key, value = (
        projection(f"{prefix}attention.self.{name}", getattr(inner, name), h, d) for name in ("query", "key", "value")
    )
    out = Projection(Block(f"{prefix}attention.output.dense.weight", 1, 0, h, d))
    linears = {f"{prefix}intermediate.dense": first}
    units = mlp_group(f"{prefix}mlp", first.out_features, linears, f"{prefix}output.dense")
    scales = relu_scale(units, getattr(intermediate, "intermediate_act_fn", None))
    group = AttentionGroup(f"{prefix}attention", h, h, d, query, key, value, out)
    if holders(module).keys() != {"attention", "intermediate", "output"}:
        return Layer(units, group, scales)  # cross-attention: who reads what is another matter
    halves = {name: module.get_submodule(name) for name in ("attention.output", "output")}
    middle, last = (norm_of(f"{prefix}{name}.LayerNorm", half.LayerNorm) for name, half in halves.items())
    if middle is None or last is None:
        return Layer(units, group, scales)
    outputs = {f"{prefix}{name}.dense": half.get_submodule("dense") for name, half in halves.items()}
    wrote = f"{prefix}attention.output.dense"
    readers = {f"{prefix}attention.self.{name}": getattr(inner, name) for name in ("query", "key", "value")}
    return Layer(
        units,
        group,
        scales,
        shifts=(
            *attention_shifts(group, wrote, outputs[wrote]),
            *middle.reads(linears),
            *stream_writes(outputs),
        ),
        follows=Follows(_before(path), readers),
        last=last,
    )


def _before(path: str) -> str:
    """The norm whose output layer ``encoder.layer.N`` reads: of the layer before it, or of the embeddings."""
    stack, _, number = path.rpartition(".")
    if number.isdigit() and int(number) > 0:
        return f"{stack}.{int(number) - 1}.output.LayerNorm"
    return f"{stack.removesuffix('encoder.layer')}embeddings.LayerNorm"


def ends(path: str, module: nn.Module) -> Ends | None:
    """The embeddings. The encoder's output is its residual stream, and heads that read it are outside the model."""
    norm = norm_of(f"{path}.LayerNorm", getattr(module, "LayerNorm", None))
    if holders(module).keys() != {*_EMBEDDINGS, "LayerNorm"} or norm is None:
        return None
    word, position, kind = (f"{path}.{name}.weight" for name in _EMBEDDINGS)
    sums = (Sum(f"{path}.positions", position, word), Sum(f"{path}.kinds", kind, word))
    return Ends(path, None, shifts=sums, last=norm)


_EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")
