"""Trimming by partition against the two formulations in use elsewhere, in one run: 10 million entries, density 0.2."""

import pytest
import torch

from bench.merging import trim

DENSITY = 0.2


@pytest.fixture(scope="module")
def vector():
    return {"w": torch.randn(10_000_000, generator=torch.Generator().manual_seed(0))}


def by_kthvalue(vector):
    value = vector["w"]
    rank = value.numel() - round(DENSITY * value.numel()) + 1
    threshold = value.abs().kthvalue(rank).values
    return {"w": torch.where(value.abs() >= threshold, value, 0)}


def by_sorting(vector):
    value = vector["w"]
    threshold = value.abs().sort(descending=True).values[round(DENSITY * value.numel()) - 1]
    return {"w": torch.where(value.abs() >= threshold, value, 0)}


WAYS = {"partition (ours)": lambda vector: trim(vector, DENSITY), "kthvalue": by_kthvalue, "sorting": by_sorting}


@pytest.mark.benchmark(group="trim")
@pytest.mark.parametrize("way", WAYS)
def test_trim(benchmark, vector, way):
    trimmed = benchmark.pedantic(WAYS[way], args=(vector,), rounds=3, warmup_rounds=1)
    assert torch.equal(trimmed["w"], trim(vector, DENSITY)["w"])
