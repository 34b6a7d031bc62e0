"""Selection read in pieces against sorting, on the inputs that are hardest for it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergearena.bench.merging import selection
from mergearena.bench.merging.selection import kth_largest


def reader(rows, width):
    """Passes over the rows in pieces that share one buffer, as task vectors do; counts its whole passes."""
    buffer = torch.empty(len(rows), width, dtype=rows.dtype)

    def read(stride):
        read.whole += stride == 1
        every = rows[:, ::stride]
        for start in range(0, every.shape[1], width):
            piece = every[:, start : start + width]
            yield buffer[:, : piece.shape[1]].copy_(piece)

    read.whole = 0
    return read


def by_sorting(rows, kept):
    return rows.sort(dim=1, descending=True).values[:, kept - 1].tolist()


@pytest.fixture
def small_sample(monkeypatch):
    """Brackets on a hundred entries, where the real size would sort short vectors whole."""
    monkeypatch.setattr(selection, "_SAMPLE", 100)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
few = st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.0, 1e-45, -1e-45, 3e38])


@given(st.lists(finite | few, min_size=1, max_size=60), st.integers(1, 7), st.data())
def test_short_vectors(values, width, data):
    rows = torch.tensor([values, values[::-1]], dtype=torch.float32)
    kept = data.draw(st.integers(1, len(values)))
    assert kth_largest(reader(rows, width), 2, len(values), kept) == by_sorting(rows, kept)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "few values", "mostly zero", "constant", "sorted", "waves", "one spike"]),
    st.sampled_from([torch.float32, torch.float64]),
    st.data(),
)
def test_long_vectors_through_a_bracket(seed, shape, dtype, data):
    size = data.draw(st.integers(150, 5000))
    kept = data.draw(st.integers(1, size) | st.sampled_from([1, 2, size - 1, size]))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, size, generator=generator, dtype=dtype)
    rows = {
        "normal": rows,
        "few values": rows.round(),
        "mostly zero": torch.where(rows > 1.5, rows, 0),
        "constant": torch.full_like(rows, 0.25),
        "sorted": rows.sort(1).values,
        # The period that a stride might fall in step with.
        "waves": torch.arange(size, dtype=dtype).remainder(12).expand(2, -1),
        "one spike": torch.zeros_like(rows).index_fill_(1, torch.tensor([size // 2]), 7.0),
    }[shape]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_SAMPLE", 100)
        assert kth_largest(reader(rows, 64), 2, size, kept) == by_sorting(rows, kept)


def test_a_sample_that_sees_only_outliers_costs_a_pass_and_not_the_answer(small_sample):
    size = 4000
    rows = torch.linspace(0, 1, size).expand(2, -1).clone()
    rows[0, :: selection._stride(size)] = 100.0
    read = reader(rows, 256)
    assert kth_largest(read, 2, size, 1000) == by_sorting(rows, 1000)
    assert read.whole == 3  # the bracket's pass, the check of its ends, one row partitioned whole


def test_one_pass_is_enough_where_the_bracket_holds(small_sample):
    rows = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    read = reader(rows, 512)
    assert kth_largest(read, 3, 5000, 1000) == by_sorting(rows, 1000)
    assert read.whole == 1


def test_a_value_that_ties_massively_is_found_without_gathering_it(small_sample, monkeypatch):
    """Half of all entries equal the threshold, as in models stored in half precision."""
    rows = torch.where(torch.rand(2, 5000, generator=torch.Generator().manual_seed(0)) < 0.5, 0.5, 2.0)
    monkeypatch.setattr(selection, "_whole", None)
    assert kth_largest(reader(rows, 512), 2, 5000, 3500) == [0.5, 0.5]
    assert kth_largest(reader(rows, 512), 2, 5000, 1500) == [2.0, 2.0]


@pytest.mark.parametrize(("kept", "limit"), [(0, math.inf), (5, 1.0), (6, -math.inf)])
def test_none_all_or_more_kept(kept, limit):
    assert kth_largest(reader(torch.ones(2, 5), 2), 2, 5, kept) == [limit] * 2


@pytest.mark.parametrize("size", [10**6, 10**7, 88_000_000, 10**9])
def test_strides_share_no_factor_with_layer_widths(size):
    stride = selection._stride(size)
    assert math.gcd(stride, 768) == 1
    assert size / stride == pytest.approx(selection._SAMPLE, rel=0.3)


def test_the_real_sample_size_on_a_million_entries():
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 1_000_000), dtype=np.float32))
    read = reader(rows, 4096)
    assert kth_largest(read, 1, 1_000_000, 200_000) == by_sorting(rows, 200_000)
    assert read.whole == 1
