"""Small real models that tests share."""

import pytest
import torch
from torch import nn

import bench._torchvision  # noqa: F401
from bench.architecture import architecture_of
from bench.game import AttackerView, DefenderView, Tier
from tiny_suite import TinySuite, randomized, vision_tower


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=40,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    return BertModel(config, add_pooling_layer=False)


def outputs(model: nn.Module) -> torch.Tensor:
    """What a family's model computes on a fixed batch."""
    generator = torch.Generator().manual_seed(7)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        if model.__class__.__name__ == "BertModel":
            ids = torch.randint(1, 40, (3, 9), generator=generator)
            return model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return model(torch.randn(3, 3, 14, 14, generator=generator).to(dtype))


FAMILIES = {"open_clip": vision_tower, "bert": bert}


@pytest.fixture(params=FAMILIES)
def family(request):
    """A function that makes a random model of each known family in turn: ``family(seed, dtype)``."""

    def make(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        torch.manual_seed(seed)
        return randomized(FAMILIES[request.param]().to(dtype), seed)

    return make


@pytest.fixture(scope="session")
def tiny():
    return TinySuite()


@pytest.fixture
def defender(tiny):
    def view(seed: int = 0) -> DefenderView:
        generator = torch.Generator().manual_seed(seed)
        return DefenderView(suite=tiny, base=tiny.base(), tasks=("a",), task="a", generator=generator)

    return view


@pytest.fixture
def attacker(tiny):
    def view(released=None, tier: Tier = Tier.DATA_FREE, donors=("b",), seed: int = 0) -> AttackerView:
        return AttackerView(
            suite=tiny,
            base=tiny.base(),
            tasks=("a", *donors),
            generator=torch.Generator().manual_seed(seed),
            released=tiny.finetuned("a") if released is None else released,
            victim="a",
            donors={task: tiny.finetuned(task) for task in donors},
            tier=tier,
            examples={task: tiny.load(task, "train") for task in ("a", *donors)},
        )

    return view


@pytest.fixture(params=FAMILIES)
def architecture_and_states(request):
    """(architecture, base, victim) of each family, float64: the victim is the base plus a small task vector."""
    torch.manual_seed(0)
    model = randomized(FAMILIES[request.param]().double(), 1)
    base = {k: v.clone() for k, v in model.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    victim = {k: v + 0.02 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in base.items()}
    return architecture_of(model), base, victim
