"""Families of models: which are recognised, which of their symmetries are claimed, and which are not."""

import pytest
import torch
from torch import nn

from conftest import FAMILIES, bert, close, computes, decoder, outputs, random_element, randomized, vision_tower
from mergearena.bench.errors import UnsupportedArchitecture
from mergearena.bench.symmetry.architecture import architecture_of


def tower(**options):
    from open_clip.model import _build_vision_tower

    config = {"layers": 2, "width": 24, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 7, "image_size": 14}
    return _build_vision_tower(12, {**config, **options})


COUSINS = {
    "mistral": (lambda: decoder("Mistral"), "rotary"),
    "qk-norm": (lambda: decoder("Qwen3"), "fixed"),
    "biases-everywhere": (lambda: decoder(attention_bias=True, mlp_bias=True), "rotary"),
    "classifier": (lambda: decoder("Llama", "ForSequenceClassification", pad_token_id=0), "rotary"),
    "tied": (lambda: decoder(tie_word_embeddings=True), "rotary"),
    "relu": (lambda: bert(hidden_act="relu"), "free"),
    "layer-scale": (lambda: tower(ls_init_value=0.5), "free"),
    "no-first-norm": (lambda: tower(no_ln_pre=True, pool_type="avg"), "free"),
}


@pytest.mark.parametrize("name", COUSINS)
def test_cousins_of_a_family_keep_their_function(name):
    make, qk = COUSINS[name]
    torch.manual_seed(0)
    model = randomized(make().double(), 0)
    architecture = architecture_of(model)
    assert {attention.qk for attention in architecture.attentions} == {qk}
    assert (architecture.residual is None) == (name == "relu")
    before = outputs(model)
    for seed in range(3):
        element = random_element(architecture, "everything", seed)
        close(computes(model, architecture.apply(model.state_dict(), element)), before)


def altered(model, **attributes):
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def text_tower():
    from open_clip.transformer import TextTransformer

    return TextTransformer(8, 11, width=16, heads=2, layers=2, output_dim=6)


def extra_norm():
    model = decoder()
    model.model.layers[1].post_feedforward_layernorm = nn.RMSNorm(16)
    return model


def extra_gain():
    model = vision_tower()
    model.transformer.gain = nn.Parameter(torch.ones(24))
    return model


def one_plus_weight():
    """Gemma's norm: under the same names, another function of its weight."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

    model = decoder()
    model.model.norm = GemmaRMSNorm(16)
    return model


WITHOUT_RESIDUAL = {
    "encoder": bert,
    "bare-decoder": lambda: decoder().model,
    "bare-block": lambda: vision_tower().transformer.resblocks[0],
    "text-tower": text_tower,
    "returns-its-tokens": lambda: altered(vision_tower(), output_tokens=True),
    "extra-tensor": lambda: altered(vision_tower(), ln_extra=nn.LayerNorm(24)),
    "extra-in-a-block": extra_norm,
    "extra-between-blocks": extra_gain,
    "no-projection": lambda: altered(vision_tower(), proj=None),
    "inside-another-model": lambda: nn.Sequential(vision_tower()),
    "one-plus-weight": one_plus_weight,
}


@pytest.mark.parametrize("name", WITHOUT_RESIDUAL)
def test_no_residual_symmetry_where_a_tensor_or_the_output_is_not_understood(name):
    assert architecture_of(WITHOUT_RESIDUAL[name]()).residual is None


def test_the_text_tower_of_clip_is_known_too():
    torch.manual_seed(0)
    tower = randomized(text_tower().double(), 0)
    ids = torch.tensor([[3, 4, 10, 0, 0, 0, 0, 0]])
    architecture = architecture_of(tower)
    assert len(architecture.attentions) == 2
    with torch.no_grad():
        before = tower(ids)
        element = random_element(architecture, "everything", 0)
        tower.load_state_dict(architecture.apply(dict(tower.state_dict()), element))
        close(tower(ids), before)


def test_a_layer_it_does_not_know_is_named():
    model = nn.Sequential(FAMILIES["open_clip"](), nn.LSTM(4, 4))
    with pytest.raises(UnsupportedArchitecture, match=r"1 \(LSTM\)"):
        architecture_of(model)
    with pytest.raises(UnsupportedArchitecture, match="no transformer block"):
        architecture_of(nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize("name", ["StableLm", "Cohere"])
def test_other_rotary_embeddings_are_refused(name):
    """One turns a share of every head, the other turns neighbouring channels."""
    import transformers

    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 24}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{name}Config")(**shape, **special, num_attention_heads=4)
    with pytest.raises(UnsupportedArchitecture, match=r"does not pair channel i with i \+ d/2"):
        architecture_of(getattr(transformers, f"{name}Model")(config))
