"""The page's colours, in light and dark: one source for the style sheet, the plots and their pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

COLOURS = {
    "paper": ("#fdfcfa", "#171614"),
    "card": ("#f4f1eb", "#211f1c"),
    "ink": ("#1c1b19", "#ece8e1"),
    "muted": ("#635f58", "#a9a398"),
    "line": ("#cfcac1", "#4b463f"),
    "grid": ("#e8e4dc", "#2e2b27"),
    "link": ("#175a75", "#8ccbe2"),
    "ranked": ("#1f6f8b", "#6fbbd6"),
    "unranked": ("#a8500f", "#f0a15f"),
    "front": ("#9c2a1c", "#ff8a70"),
    "flag": ("#714500", "#f3cf86"),
    "flag-paper": ("#fdf0d2", "#3b2f17"),
}
"""Name -> what it is on light and on dark paper."""

_LIGHT_STOPS = ("#f4f1eb", "#fbd9a5", "#f3a35c", "#d7542f", "#97190f")
_DARK_STOPS = ("#211f1c", "#47291c", "#86391f", "#d05c31", "#ffb884")
STEPS = 20
"""The heat map has a colour for every so many-th share, from 0 to 1: ``h0`` to ``h20``."""


def light(text: str) -> str:
    """A text in which every ``var(--name)`` has become the colour that it has on light paper."""
    return re.sub(r"var\(--([\w-]+)\)", lambda found: COLOURS[found[1]][0], text)


def heat_class(share: float) -> str:
    """The class of a heat map's square."""
    return f"h{round(STEPS * share)}"


def rules() -> Iterator[str]:
    """The style sheet's rules of all these colours."""
    variables = "; ".join(f"--{name}: light-dark({one}, {other})" for name, (one, other) in COLOURS.items())
    yield f":root {{ {variables}; }}"
    for step in range(STEPS + 1):
        one, other = _between(_LIGHT_STOPS, step / STEPS), _between(_DARK_STOPS, step / STEPS)
        ink = f"light-dark({readable(one)}, {readable(other)})"
        yield f".{heat_class(step / STEPS)} {{ background: light-dark({one}, {other}); color: {ink}; }}"


def _between(stops: Sequence[str], share: float) -> str:
    """The colour so far along evenly spaced stops."""
    at = share * (len(stops) - 1)
    first = min(int(at), len(stops) - 2)
    mixed = (a + (b - a) * (at - first) for a, b in zip(_rgb(stops[first]), _rgb(stops[first + 1]), strict=True))
    return "#" + "".join(f"{round(value):02x}" for value in mixed)


def readable(paper: str) -> str:
    """Black or white, whichever stands out more: one of them has a contrast of 4.5 and more on any colour."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, paper))


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21 (WCAG 2.2, relative luminance)."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (x / 255 for x in _rgb(colour))]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))
