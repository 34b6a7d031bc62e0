"""How numbers are printed, on the page and in the terminal."""

from __future__ import annotations


def spanned(low: float, high: float, matches: int, form: str) -> str:
    """An interval as it is printed. One match and seed tell nothing about others: their interval is not known."""
    return f"[{low:{form}}, {high:{form}}]" if matches > 1 else "(one match)"


def percent(value: float | None) -> str:
    """A share in percent, one decimal."""
    return "–" if value is None else f"{100 * value:.1f}"


def relative(value: float | None) -> str:
    """A cost in percent of another, two digits; as a multiple where it is larger, as a bound where next to nothing."""
    if value is None:
        return "–"
    if 0 < value < 1e-6:
        return "< 0.0001 %"
    return f"{100 * value:.2g} %" if value < 0.995 else f"{value:.1f} ×"
