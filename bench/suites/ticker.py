"""Progress of what a suite builds and measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def ticker(progress: Progress | None, title: str, total: int | None) -> Callable[[], None]:
    """A function that advances a new bar by one, or does nothing."""
    if progress is None:
        return lambda: None
    bar = progress.add_task(title, total=total)
    return lambda: progress.advance(bar)
