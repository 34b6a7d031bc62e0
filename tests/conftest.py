"""Small real models that tests share."""

import os

# Before torch is imported, and for what tests start: two workers whose threads wait for each other on two cores took
# six times as long as single-threaded ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch import nn

from mergearena.bench.games.protection.players import AttackerView, DefenderView
from mergearena.bench.players.registry import registry
from mergearena.bench.players.tier import Tier
from mergearena.bench.symmetry.architecture import Element, architecture_of
from mergearena.bench.symmetry.heads import Gauge
from tiny_suite import TinySuite, randomized, vision_tower


def bert(**options) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=40,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
        **options,
    )
    return BertModel(config, add_pooling_layer=False)


def decoder(name: str = "Llama", head: str = "ForCausalLM", **config) -> nn.Module:
    """A decoder with grouped queries, its norms torch's own since transformers computes its in float32 always."""
    import transformers

    shape = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 16}
    config = getattr(transformers, f"{name}Config")(**shape, **heads, **{"tie_word_embeddings": False, **config})
    model = getattr(transformers, f"{name}{head}")(config)
    for path, module in [*model.named_modules()]:
        if type(module).__name__.endswith("RMSNorm"):
            model.set_submodule(path, nn.RMSNorm(len(module.weight), eps=module.variance_epsilon))
    return model


def outputs(model: nn.Module) -> torch.Tensor:
    """What a family's model computes on a fixed batch."""
    generator = torch.Generator().manual_seed(7)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        if hasattr(model, "config"):
            ids = torch.randint(1, 40, (3, 9), generator=generator)
            return model(ids, attention_mask=torch.ones_like(ids))[0]
        return model(torch.randn(3, 3, 14, 14, generator=generator).to(dtype))


def sizes(shape, g):
    return 0.2 + 3 * torch.rand(shape, generator=g, dtype=torch.float64)


def random_rotation(width, g):
    return torch.linalg.qr(torch.randn(width, width, generator=g, dtype=torch.float64)).Q


def random_gauge(group, kind, g, seed):
    shape = (group.kv_heads, group.width)
    element = Gauge.identity(group)
    a, b, order = element.a, element.b, element.order
    if kind == "scale":
        a, b = (torch.diag_embed(sizes(shape, g)) for _ in "ab")
    if kind in ("invertible", "everything"):
        a, b = (random_rotation_per_head(group, g) * sizes(shape, g)[:, None] for _ in "ab")
    if kind in ("head-order", "everything"):
        order = torch.arange(group.kv_heads).roll(1 + seed % max(1, group.kv_heads - 1))  # never the identity
    if group.qk != "free" and a is not element.a:
        # A projection may come near a singular map; a step along the identity keeps away from it.
        a = group.nearest_admissible(a + 4 * element.a)
    return Gauge(a, b, order)


def random_rotation_per_head(group, g):
    return torch.stack([random_rotation(group.width, g) for _ in range(group.kv_heads)])


def random_element(architecture, kind, seed):
    g = torch.Generator().manual_seed(seed)
    everything = kind == "everything"
    return Element(
        {
            m.name: torch.randperm(m.width, generator=g)
            for m in architecture.mlps
            if everything or kind == "permutation"
        },
        {a.name: random_gauge(a, kind, g, seed) for a in architecture.attentions},
        {s.name: sizes(s.width, g) for s in architecture.scales if everything or kind == "units"},
        {n.name: sizes(n.width, g) for n in architecture.norms if everything or kind == "norms"},
        torch.randperm(architecture.residual.width, generator=g)
        if architecture.residual and kind in ("residual", "everything")
        else None,
    )


def computes(model: nn.Module, state) -> torch.Tensor:
    """What a model computes with these weights."""
    model.load_state_dict(state)
    return outputs(model)


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    """Assert equality in float64 up to rounding."""
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


FAMILIES = {"open_clip": vision_tower, "bert": bert, "llama": decoder, "qwen2": lambda: decoder("Qwen2")}


@pytest.fixture(params=FAMILIES)
def family(request):
    """A function that makes a random model of each known family in turn: ``family(seed, dtype)``."""

    def make(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        torch.manual_seed(seed)
        return randomized(FAMILIES[request.param]().to(dtype), seed)

    return make


@pytest.fixture
def registering():
    """What a test registers is forgotten afterwards."""
    with registry.restored():
        yield registry


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


@pytest.fixture
def one_thread():
    """As in a run with a play per core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
