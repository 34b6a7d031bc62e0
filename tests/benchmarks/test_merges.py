"""Merges of eight models of ViT-B/32's size (88 million float32 each), on one thread as in a play.

Beside ours stand the two formulations in use elsewhere, written plainly: one concatenated vector per model, its
threshold by ``kthvalue`` (FusionBench), and every tensor on its own, its threshold by sorting (mergekit). Takes 3 GB of
models and about 8 GB of work space, all of it for the plain formulations.
"""

from types import SimpleNamespace

import pytest
import torch

from mergearena.attacks.merge.dare import Dare
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.attacks.merge.ties import Ties

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS, WIDTH, MODELS = 12, 768, 8
DENSITY, DROP, SCALE = 0.2, 0.5, 0.3


def shapes():
    """The tensors of CLIP ViT-B/32's vision tower."""
    wide = 4 * WIDTH
    yield from {"conv": (WIDTH, 3, 32, 32), "class": (WIDTH,), "position": (50, WIDTH), "proj": (WIDTH, 512)}.items()
    for layer in range(LAYERS):
        block = {
            "in": (3 * WIDTH, WIDTH),
            "in_bias": (3 * WIDTH,),
            "out": (WIDTH, WIDTH),
            "fc": (wide, WIDTH),
            "fc_bias": (wide,),
            "down": (WIDTH, wide),
            **{name: (WIDTH,) for name in ("out_bias", "down_bias", "norm1", "norm1_bias", "norm2", "norm2_bias")},
        }
        yield from ((f"{layer}.{name}", shape) for name, shape in block.items())


@pytest.fixture(scope="module")
def models():
    """(base, models): task vectors of a tenth of the base's spread."""
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.empty(shape).normal_(0, 0.02, generator=generator) for name, shape in shapes()}
    tuned = [
        {
            name: torch.empty_like(value).normal_(0, 0.002, generator=generator).add_(value)
            for name, value in base.items()
        }
        for _ in range(MODELS)
    ]
    return base, tuned


@pytest.fixture(scope="module")
def results():
    """What the first way of each group returned."""
    return {}


def ours(merge):
    def run(base, models):
        view = SimpleNamespace(base=base, generator=torch.Generator().manual_seed(0))
        return merge.merge(dict(enumerate(models)), view)

    return run


def deltas(key, base, models):
    return torch.stack([model[key] - base[key] for model in models])


def flatten(state):
    return torch.cat([value.flatten() for value in state.values()])


def unflatten(vector, base):
    parts = vector.split([value.numel() for value in base.values()])
    return {key: part.view_as(value) for (key, value), part in zip(base.items(), parts, strict=True)}


def whole(merge):
    """A merge of T x N task vectors, applied to concatenated models."""

    def run(base, models):
        origin = flatten(base)
        return unflatten(origin + SCALE * merge([flatten(model) - origin for model in models]), base)

    return run


def by_tensor(merge):
    """A merge of T x shape task vectors, applied tensor by tensor."""

    def run(base, models):
        return {key: value + SCALE * merge(deltas(key, base, models)) for key, value in base.items()}

    return run


def elect(trimmed):
    """Elect the sign of larger mass, average who agrees."""
    agrees = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    return (trimmed * agrees).sum(0) / agrees.sum(0).clamp(min=1)


def ties_by_kthvalue(vectors):
    rank = vectors[0].numel() - round(DENSITY * vectors[0].numel()) + 1
    trimmed = torch.stack([v * (v.abs() >= v.abs().kthvalue(rank).values) for v in vectors])
    del vectors
    return elect(trimmed)


def ties_by_sorting(stack):
    kept = round(DENSITY * stack[0].numel())
    limits = [v.abs().flatten().sort(descending=True).values[kept - 1] for v in stack]
    return elect(torch.stack([v * (v.abs() >= limit) for v, limit in zip(stack, limits, strict=True)]))


def dare(vectors):
    drawn = torch.Generator().manual_seed(0)
    return sum(v * torch.full_like(v, 1 - DROP).bernoulli(generator=drawn) / (1 - DROP) for v in vectors)


GROUPS = {
    "task arithmetic": {
        "ours": ours(TaskArithmetic(scale=SCALE)),
        "concatenated": whole(sum),
        "per tensor": by_tensor(lambda stack: stack.sum(0)),
    },
    "TIES, threshold over the model": {
        "ours": ours(Ties(density=DENSITY, scale=SCALE)),
        "concatenated, kthvalue": whole(ties_by_kthvalue),
    },
    "TIES, threshold per tensor": {
        "ours": ours(Ties(density=DENSITY, per="tensor", scale=SCALE)),
        "per tensor, sorting": by_tensor(ties_by_sorting),
    },
}
DARE = {"ours": ours(Dare(drop=DROP, scale=SCALE)), "concatenated": whole(dare), "per tensor": by_tensor(dare)}


WAYS = [
    pytest.param(group, way, id=f"{group}, {way}", marks=pytest.mark.benchmark(group=group))
    for group, ways in GROUPS.items()
    for way in ways
]


@pytest.mark.parametrize(("group", "way"), WAYS)
def test_merge(benchmark, models, results, group, way):
    """All ways of a group return the same model, within one rounding of theta0 + lambda tau."""
    merged = benchmark.pedantic(GROUPS[group][way], args=models)
    expected = results.setdefault(group, merged)
    for key, value in merged.items():
        rounding = 2**-23 * (value.abs() + models[0][key].abs())
        assert ((value - expected[key]).abs() <= rounding).all(), key


@pytest.mark.benchmark(group="DARE")
@pytest.mark.parametrize("way", DARE)
def test_dare(benchmark, models, way):
    """Each way draws its own masks; all of them keep the sum of task vectors in expectation."""
    base, tuned = models
    merged = benchmark.pedantic(DARE[way], args=models)
    for key in ("0.fc", "5.in"):
        total = SCALE * deltas(key, base, tuned).sum(0)
        share = ((merged[key] - base[key]) * total).sum() / total.square().sum()
        assert share.item() == pytest.approx(1, abs=0.01)
