"""Alignment at the size of CLIP ViT-B/32 (12 blocks, 3072 x 768), side by side in one run.

``align``: weight-matching + gauge-anchor against the matrix products that they cannot do without.
``assign``: finding the units' order, with the certificate and by SciPy's solver alone, on the similarities of a victim
that ``params`` protected, and on the defense's own problem, where rows compete for the same columns.
"""

from functools import reduce
from types import SimpleNamespace

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mergearena.attacks.align.gauge_anchor import GaugeAnchor
from mergearena.attacks.align.weight_matching import WeightMatching
from mergearena.bench.symmetry.architecture import architecture_of
from mergearena.bench.symmetry.assignment import assign, similarity
from mergearena.defenses.protect.params import PaRaMS

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS, WIDTH = 12, 768
REALISTIC = 0.1
"""Norm of a task vector over that of its base, tensor by tensor: what fine-tuning CLIP moves, and more."""


@pytest.fixture(scope="module")
def view():
    from open_clip.model import _build_vision_tower

    config = {"layers": LAYERS, "width": WIDTH, "head_width": 64, "patch_size": 32, "image_size": 224}
    torch.manual_seed(0)
    model = _build_vision_tower(512, config)
    base = {k: v.detach().clone() for k, v in model.state_dict().items()}
    g = torch.Generator().manual_seed(1)
    for key, value in base.items():
        if value.ndim == 1:  # initial biases are zero, which no trained model's are
            base[key] = value + 0.02 * torch.randn(value.shape, generator=g)
    victim = {k: v + REALISTIC * v.std() * torch.randn(v.shape, generator=g) for k, v in base.items()}
    found = SimpleNamespace(architecture=architecture_of(model), base=base, victim=victim, generator=g)
    found.released = PaRaMS(scaling="nonsymmetric").protect(victim, found)
    return found


def aligned(view):
    return reduce(lambda state, aligner: aligner.align(state, view), (WeightMatching(), GaugeAnchor()), view.released)


@pytest.fixture(scope="module")
def heads(view):
    """Q, K, Q0, K0 and V, O, V0, O0 of every layer, h x d x r each, float64."""
    return [
        [p.read(s).double() for s in (view.released, view.base) for p in pair]
        for group in view.architecture.attentions
        for pair in ((group.q, group.k), (group.v, group.o))
    ]


def products(view, heads):
    """The similarities of every MLP; per head the Gram matrices, the whitening and the applied maps, in float64."""
    out = None
    for group in view.architecture.mlps:
        out = similarity(group, view.base, view.released, out=out)
    for q, k, q0, k0 in heads:
        t = q @ q.mT
        for left, right in ((q, q), (q0, q), (k, k), (k0, k)):
            left @ right.mT
        for rows in (q, k, q, k):  # whitened, and at the end moved
            t @ rows


WAYS = {"weight-matching+gauge-anchor": lambda view, heads: aligned(view), "its matrix products": products}


@pytest.mark.benchmark(group="align")
@pytest.mark.parametrize("way", WAYS)
def test_align(benchmark, view, heads, way):
    result = benchmark.pedantic(WAYS[way], args=(view, heads), rounds=3, warmup_rounds=1)
    if result is not None:
        # Every unit and every head is back where it was.
        wide = max(result, key=lambda k: result[k].numel())
        assert (result[wide] - view.victim[wide]).norm() < 1e-2 * view.victim[wide].norm()


def by_solver(gain):
    return torch.from_numpy(linear_sum_assignment(gain.numpy(), maximize=True)[1])


SOLVERS = {"certificate (ours)": lambda gain: assign(gain).order, "linear_sum_assignment": by_solver}
PROBLEMS = {"matching": 1, "the defense's own": -1}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_assign(benchmark, view, problem, solver):
    benchmark.group = f"assign: {problem}, {LAYERS} groups"
    gains = [PROBLEMS[problem] * similarity(group, view.base, view.released) for group in view.architecture.mlps]
    solve = SOLVERS[solver]
    orders = benchmark.pedantic(lambda: [solve(gain) for gain in gains], rounds=2, warmup_rounds=0)
    for gain, order in zip(gains, orders, strict=True):
        assert gain.gather(1, order[:, None]).double().sum() == pytest.approx(
            gain.gather(1, by_solver(gain)[:, None]).double().sum().item(), rel=1e-9
        )
