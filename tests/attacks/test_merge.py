"""Merges against tensors worked by hand, and identities they must satisfy."""

from types import SimpleNamespace

import pytest
import torch

from mergearena.attacks.merge.average import average
from mergearena.attacks.merge.dare import Dare
from mergearena.attacks.merge.task_arithmetic import TaskArithmetic
from mergearena.attacks.merge.ties import Ties
from mergearena.bench.errors import BadConfig
from mergearena.bench.merging.kernels import default_scale


def view(*shape):
    base = {"w": torch.zeros(shape), "b": torch.zeros(2)}
    return SimpleNamespace(base=base, generator=torch.Generator().manual_seed(0))


def models(*rows):
    return {str(i): {"w": torch.tensor(row), "b": torch.zeros(2)} for i, row in enumerate(rows)}


def test_average_by_hand():
    merged = average(models([1.0, 2.0], [3.0, -2.0]), view(2))
    assert merged["w"].tolist() == [2.0, 0.0]


def test_task_arithmetic_by_hand():
    seen = view(2)
    seen.base["w"] = torch.tensor([1.0, 1.0])
    merged = TaskArithmetic(scale=0.5).merge(models([2.0, 1.0], [1.0, 5.0]), seen)
    assert merged["w"].tolist() == [1.5, 3.0]


@pytest.mark.parametrize(("count", "scale"), [(2, 0.8), (3, 0.8), (4, 0.3), (8, 0.3)])
def test_published_coefficients(count, scale):
    assert default_scale(count) == scale


def test_task_arithmetic_at_one_over_n_is_the_average():
    many = models([1.0, 2.0], [3.0, -2.0], [0.5, 0.25])
    left, right = TaskArithmetic(scale=1 / 3).merge(many, view(2)), average(many, view(2))
    torch.testing.assert_close(left["w"], right["w"])


def test_ties_by_hand():
    """Ten entries over both tensors and density 0.2: each model keeps its two largest."""
    seen = view(8)
    merged = Ties(density=0.2, scale=1.0).merge(
        models(
            [4.0, 3.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0],  # keeps 4, 3
            [-6.0, 5.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0],  # keeps -6, 5
            [1.0, 0.0, 2.0, -3.0, 0.0, 0.0, 0.0, 0.0],  # keeps 2, -3
        ),
        seen,
    )
    # entry 0: 4 - 6 < 0 elects minus: only -6 agrees; 1: mean of 3 and 5; 2: only 2 survived; 3: only -3.
    assert merged["w"].tolist() == [-6.0, 4.0, 2.0, -3.0, 0.0, 0.0, 0.0, 0.0]


def test_ties_at_full_density_of_agreeing_models_is_the_average():
    many = models([1.0, -2.0], [3.0, -4.0])
    assert Ties(density=1.0, scale=1.0).merge(many, view(2))["w"].tolist() == average(many, view(2))["w"].tolist()


def test_dare_keeps_the_mean_of_the_task_vector():
    target, seen = models([1.0, -2.0], [3.0, -4.0]), view(2)
    merges = torch.stack([Dare(drop=0.5, scale=1.0).merge(target, seen)["w"] for _ in range(4000)])
    torch.testing.assert_close(merges.mean(0), torch.tensor([4.0, -6.0]), rtol=0.05, atol=0)


def test_dare_without_dropping_is_the_merge_that_follows():
    many = models([1.0, -2.0, 0.5, 0.1], [3.0, -4.0, 0.2, -0.1])
    linear = Dare(drop=0.0).merge(many, view(4))["w"]
    assert linear.tolist() == TaskArithmetic().merge(many, view(4))["w"].tolist()
    signed = Dare(drop=0.0, then="ties", density=0.5).merge(many, view(4))["w"]
    assert signed.tolist() == Ties(density=0.5).merge(many, view(4))["w"].tolist()


def test_dare_refuses_a_density_that_nothing_would_use():
    with pytest.raises(BadConfig, match="then=ties"):
        Dare(density=0.5)
