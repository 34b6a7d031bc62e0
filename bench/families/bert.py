"""Hugging Face's BERT encoders (MiniLM, ...)."""

from __future__ import annotations

from torch import nn

from bench.families.base import Ends, Layer, mlp_group, prefixed, projection, relu_scale
from bench.heads import AttentionGroup, Block, Projection


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
    return Layer(units, AttentionGroup(f"{prefix}attention", h, h, d, query, key, value, out), scales)


def ends(path: str, module: nn.Module) -> Ends | None:
    """None: the encoder's output is its residual stream, and heads that read it are outside the model."""
    return None
