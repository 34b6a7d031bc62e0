"""Exact selection: the k-th largest entry of vectors too long to be sorted, read in pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import Tensor

Row = np.ndarray[Any, np.dtype[Any]]
Read = Callable[[int], Iterable[Tensor]]
"""``read(stride)`` makes one pass over every ``stride``-th entry, in pieces rows x c that may share memory."""

_SAMPLE = 1 << 17


def kth_largest(read: Read, rows: int, size: int, kept: int) -> list[float]:
    """The ``kept``-th largest entry of each row, exactly: ``kept`` entries are at least that large.

    A strided sample brackets the wanted entry (Floyd and Rivest, 1975), one pass counts what lies above the bracket and
    gathers what lies inside, about 1 % of the entries, and a partition of those finds it. Nothing is concatenated or
    sorted whole. Rows whose bracket missed are partitioned whole, one at a time.

    Args:
        read: makes one pass over the entries, none of them NaN.
        rows: how many vectors there are.
        size: how many entries each has.
        kept: which one is wanted; inf is returned for 0, -inf for more than ``size``.
    """
    if kept <= 0 or kept > size:
        return [math.inf if kept <= 0 else -math.inf] * rows
    stride = _stride(size)
    sample = np.concatenate([_array(piece).copy() for piece in read(stride)], axis=1)
    if stride == 1:
        return [_kth(row, kept) for row in sample]
    brackets = [_bracket(row, kept / size) for row in sample]
    above = [0] * rows
    inside: list[list[Row]] = [[] for _ in range(rows)]
    for piece in read(1):
        for r, values in enumerate(_array(piece)):
            low, high = brackets[r]
            reaches = values >= high
            above[r] += int(np.count_nonzero(reaches))
            inside[r].append(values[(values > low) > reaches])
    found: list[float | None] = [
        _kth(row, kept - count) if 0 < kept - count <= len(row) else None
        for row, count in zip(map(np.concatenate, inside), above, strict=True)
    ]
    missed = [r for r, value in enumerate(found) if value is None]
    for r, value in zip(missed, _ends(read, missed, brackets, kept), strict=True):
        found[r] = _whole(read, r, kept) if value is None else value
    return [value for value in found if value is not None]


def _stride(size: int) -> int:
    """About ``size / _SAMPLE``, without layer widths' factors 2 and 3: else a sample might see one column only."""
    stride = size // _SAMPLE
    if stride <= 1:
        return 1
    stride |= 1
    return stride if stride % 3 else stride + 2


def _bracket(sample: Row, share: float) -> tuple[float, float]:
    """Entries of the sample around the one that a share of all entries reaches, six standard errors to each side."""
    wanted = len(sample) * (1 - share)
    margin = 6 * math.sqrt(len(sample) * share * (1 - share)) + 6
    low, high = math.floor(wanted - margin), math.ceil(wanted + margin)
    within = [rank for rank in (low, high) if 0 <= rank < len(sample)]
    ordered = np.partition(sample, within) if within else sample
    return (
        float(ordered[low]) if low >= 0 else -math.inf,
        float(ordered[high]) if high < len(sample) else math.inf,
    )


def _ends(read: Read, missed: list[int], brackets: list[tuple[float, float]], kept: int) -> list[float | None]:
    """For rows whose answer is not strictly inside their bracket: the end that it equals, as where many entries tie."""
    if not missed:
        return []
    counts = np.zeros((len(missed), 4), dtype=np.int64)
    for piece in read(1):
        array = _array(piece)
        for count, r in zip(counts, missed, strict=True):
            low, high = brackets[r]
            values = array[r]
            count += [np.count_nonzero(test) for test in (values > high, values >= high, values > low, values >= low)]
    return [
        brackets[r][1] if over_high < kept <= at_high else brackets[r][0] if over_low < kept <= at_low else None
        for r, (over_high, at_high, over_low, at_low) in zip(missed, counts, strict=True)
    ]


def _whole(read: Read, row: int, kept: int) -> float:
    return _kth(np.concatenate([_array(piece)[row].copy() for piece in read(1)]), kept)


def _kth(values: Row, kept: int) -> float:
    rank = len(values) - kept
    return float(np.partition(values, rank)[rank])


def _array(piece: Tensor) -> Row:
    return piece.cpu().numpy()
