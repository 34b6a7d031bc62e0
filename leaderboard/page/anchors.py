"""Where a link to something on the page leads: identifiers that stay the same while the board grows."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable


def slug(text: str) -> str:
    """A text as part of an identifier: lower-case letters, digits, and what may stand in a link as it is."""
    return re.sub(r"[^a-z0-9.=_]+", "-", text.lower()).strip("-")


def anchors(place: str, names: Iterable[str]) -> dict[str, str]:
    """Name -> its identifier below a place; names that would share one, or have none, get some of their digest."""
    slugs = {name: slug(name) for name in names}
    shared = Counter(slugs.values())
    return {
        name: f"{place}/{short if short and shared[short] == 1 else '-'.join(filter(None, (short, _digest(name))))}"
        for name, short in slugs.items()
    }


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:6]
