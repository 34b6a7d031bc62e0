"""What every data-free merge owes: finite results of the right form, inputs unchanged, its formula's symmetries."""

from types import SimpleNamespace

import pytest
import torch

from mergearena.attacks.merge.ace import ACE
from mergearena.attacks.merge.average import average
from mergearena.attacks.merge.breadcrumbs import Breadcrumbs
from mergearena.attacks.merge.consensus import Consensus
from mergearena.attacks.merge.dare import Dare
from mergearena.attacks.merge.della import Della
from mergearena.attacks.merge.doge import DOGE
from mergearena.attacks.merge.iso import Iso
from mergearena.attacks.merge.karcher import karcher
from mergearena.attacks.merge.lines import LiNeS
from mergearena.attacks.merge.localize_and_stitch import LocalizeAndStitch
from mergearena.attacks.merge.magmax import MagMax
from mergearena.attacks.merge.model_stock import ModelStock
from mergearena.attacks.merge.nuslerp import nuslerp
from mergearena.attacks.merge.pcb import PCB
from mergearena.attacks.merge.sce import SCE
from mergearena.attacks.merge.slerp import slerp
from mergearena.attacks.merge.subspace_boosting import SubspaceBoosting
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.attacks.merge.tatr import TATR
from mergearena.attacks.merge.ties import Ties
from mergearena.attacks.merge.tsv import TSV
from mergearena.attacks.merge.wudi import WUDI
from mergearena.bench.merging.vectors import TaskVectors

FIXED = {
    "task-arithmetic": TaskArithmetic,
    "ties": Ties,
    "ties per tensor": lambda **c: Ties(per="tensor", **c),
    "breadcrumbs": Breadcrumbs,
    "model-stock": ModelStock,
    "consensus": Consensus,
    "pcb": PCB,
    "tsv": TSV,
    "iso": Iso,
    "iso cts": lambda **c: Iso(variant="cts", **c),
    "localize-and-stitch": LocalizeAndStitch,
    "tsv of all matrices": lambda **c: TSV(matrices="all", **c),
    "iso of all matrices": lambda **c: Iso(matrices="all", **c),
    "wudi in closed form": lambda **c: WUDI(form="closed", **c),
    "ace": ACE,
    "subspace-boosting": SubspaceBoosting,
    "lines": LiNeS,
    "magmax": MagMax,
    "sce": SCE,
    "tatr": TATR,
    "doge": DOGE,
}
ITERATED = {"wudi": WUDI}
RANDOM = {"dare": Dare, "dare ties": lambda **c: Dare(then="ties", **c), "della": Della}
SCALED = {**FIXED, **RANDOM, **ITERATED}
PLAIN = {
    "average": average,
    "karcher": lambda models, view: karcher(models, view),
    "karcher of task vectors": lambda models, view: karcher(models, view, space="task-vectors"),
    "nuslerp": lambda models, view: nuslerp(models, view),
    "nuslerp per column": lambda models, view: nuslerp(models, view, per="column"),
    "slerp": lambda models, view: slerp(models, view),
    "slerp of task vectors": lambda models, view: slerp(models, view, space="task-vectors"),
}
ALL = {**{name: lambda models, view, m=make: m().merge(models, view) for name, make in SCALED.items()}, **PLAIN}


def view(base):
    """Two matrices in the symmetry map, ``q`` of an attention layer and ``fc`` of an MLP; the rest are vectors."""
    mlps = [SimpleNamespace(keys=("fc", "bias"))]
    layers = [SimpleNamespace(keys=("q",))]
    return SimpleNamespace(
        base=base,
        generator=torch.Generator().manual_seed(0),
        architecture=SimpleNamespace(mlps=mlps, attentions=layers, norms=()),
    )


def state(seed, spread=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"fc": (12, 8), "bias": (12,), "q": (8, 8), "conv": (2, 3, 2, 2), "scale": (), "table": (9, 8)}
    made = {k: spread * torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for k, s in shapes.items()}
    return {**made, "index": torch.arange(3)}


def near(base, seed, spread=0.01):
    """The base plus a small task vector."""
    return {k: v + spread * state(seed, dtype=v.dtype)[k] if v.is_floating_point() else v for k, v in base.items()}


@pytest.fixture(params=[torch.float32, torch.float64, torch.bfloat16], ids=str)
def base(request):
    return state(0, dtype=request.param)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("name", ALL)
def test_a_merge_is_a_finite_model_and_changes_no_input(name, count, base):
    models = {str(seed): near(base, seed) for seed in range(1, count + 1)}
    before = {task: {k: v.clone() for k, v in model.items()} for task, model in models.items()}
    merged = ALL[name](models, seen := view(dict(base)))
    assert {k: (v.shape, v.dtype) for k, v in merged.items()} == {k: (v.shape, v.dtype) for k, v in base.items()}
    assert all(v.isfinite().all() for v in merged.values())
    assert all(torch.equal(model[k], before[task][k]) for task, model in models.items() for k in model)
    assert all(torch.equal(seen.base[k], state(0, dtype=base["fc"].dtype)[k]) for k in base)
    assert torch.equal(merged["index"], base["index"])


@pytest.mark.parametrize("name", ALL)
def test_models_equal_to_their_base_merge_to_it(name, base):
    merged = ALL[name]({"a": dict(base), "b": dict(base), "c": dict(base)}, view(base))
    assert all(torch.allclose(merged[k], base[k], rtol=1e-6, atol=0) for k in base)


@pytest.mark.parametrize("name", ALL)
def test_a_model_equal_to_its_base_among_others_leaves_the_merge_finite(name, base):
    merged = ALL[name]({"a": near(base, 1), "b": dict(base), "c": near(base, 2)}, view(base))
    assert all(v.isfinite().all() for v in merged.values())


def combined(name, weights, scale=1.0):
    base = state(0)
    models = [near(base, seed, scale * 1e-4) for seed in (1, 2, 3)]
    return SCALED[name]().combine(TaskVectors(models, base, weights), view(base))


@pytest.mark.parametrize("name", [*FIXED, *RANDOM])
def test_combining_is_homogeneous(name):
    """Doubled task vectors double the merge, so that a coefficient before or after it is the same coefficient.

    Not where Adam's steps, whose length is absolute, end before they arrive.
    """
    once, twice = combined(name, [1.0] * 3), combined(name, [2.0] * 3)
    for key, value in once.items():
        torch.testing.assert_close(twice[key], 2 * value, rtol=1e-5, atol=1e-12)
    assert any(value.abs().max() > 1e-6 for value in once.values())


@pytest.mark.parametrize("name", [*FIXED, *ITERATED, "average", "karcher", "karcher of task vectors"])
def test_the_order_of_models_does_not_matter(name):
    base = state(0)
    models = {str(seed): near(base, seed) for seed in (1, 2, 3)}
    left = ALL[name](models, view(base))
    right = ALL[name](dict(reversed(models.items())), view(base))
    for key, value in left.items():
        torch.testing.assert_close(right[key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RANDOM)
def test_the_generator_decides_what_is_drawn(name):
    base = state(0)
    models = {str(seed): near(base, seed) for seed in (1, 2, 3)}
    first, second = (ALL[name](models, view(base)) for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in base)
    other = view(base)
    other.generator.manual_seed(1)
    assert any(not torch.equal(first[k], v) for k, v in ALL[name](models, other).items())


@pytest.mark.parametrize("name", SCALED)
def test_the_coefficient_multiplies_the_merged_task_vector(name):
    base = state(0)
    models = {str(seed): near(base, seed) for seed in (1, 2)}
    one, half = (SCALED[name](scale=scale).merge(models, view(base)) for scale in (1.0, 0.5))
    for key in base:
        if key != "index":
            torch.testing.assert_close(half[key] - base[key], (one[key] - base[key]) / 2, rtol=1e-6, atol=1e-12)
