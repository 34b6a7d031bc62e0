"""The axes of the page's plots: costs, which span decades from zero on, and shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import altair as alt

from mergearena.leaderboard.charts.scatter import Axis

LINEAR_UNDER = 1e-6
"""Relative cost under which a cost axis is linear: it must hold zero."""


def cost_axis(title: str, values: Iterable[float | None]) -> Axis:
    """Cost relative to one fine-tuning, from zero; one fine-tuning is marked."""
    largest = max([1.0, *(value or 0 for value in values)]) * 1.5

    def at(value: float) -> float:
        return math.log1p(value / LINEAR_UNDER) / math.log1p(largest / LINEAR_UNDER)

    decades = range(-5, math.floor(math.log10(largest)) + 1)
    return Axis(
        title=f"{title}, relative to one fine-tuning",
        scale=alt.Scale(type="symlog", constant=LINEAR_UNDER, domain=[0, largest], nice=False),
        at=at,
        end=largest,
        ticks=[0, *(10.0**decade for decade in decades)],
        labels="datum.value == 0 ? '0' : datum.value < 0.9 ? format(100 * datum.value, '~g') + '%' "
        ": format(datum.value, '~g') + '×'",
        rules=(1.0,),
    )


def fidelity_axis(values: Iterable[float | None], least: float) -> Axis:
    """Share of the victim's score that is left after protection; the least that ranks is marked."""
    present = [value for value in values if value is not None]
    low = math.floor(20 * min([0.95, *present])) / 20
    high = max([1.0, *present]) + 0.02 * (1 - low)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, math.inf) if (high - low) / s <= 6)
    ticks = [1 - i * step for i in range(math.floor((1 - low) / step + 1e-9) + 1)]
    return Axis(
        title="fidelity (score kept by protection)",
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        at=lambda value: (value - low) / (high - low),
        end=high,
        ticks=ticks,
        labels="format(datum.value, '~g')",
        rules=(least,),
    )


def share_axis(title: str, rules: Sequence[float] = ()) -> Axis:
    """From 0 to 1."""
    return _between(title, 0.0, 1.0, "format(datum.value, '~g')", rules)


def percent_axis(title: str, values: Iterable[float | None] = (), rules: Sequence[float] = ()) -> Axis:
    """A share in %; with values, from a round tenth under the least to one above the greatest."""
    present = [value for value in (*values, *rules) if value is not None]
    low = math.floor(10 * min(present, default=0.0)) / 10
    high = max(low + 0.1, math.ceil(10 * max(present, default=1.0)) / 10)
    return _between(title, low, high, "format(100 * datum.value, '~g')", rules)


def _between(title: str, low: float, high: float, labels: str, rules: Sequence[float]) -> Axis:
    steps = round(10 * (high - low))
    every = 1 if steps <= 5 else 2
    return Axis(
        title=title,
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        at=lambda value: (value - low) / (high - low),
        end=high,
        ticks=[round(low + step / 10, 1) for step in range(0, steps + 1, every)],
        labels=labels,
        rules=rules,
    )
