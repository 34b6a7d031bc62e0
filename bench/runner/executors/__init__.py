"""Where plays run: executors by name."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, cast

from mergearena.bench.errors import UnknownName

if TYPE_CHECKING:
    from mergearena.bench.runner.executors.executor import Maker

LOCAL = "local"
_EXECUTORS = {LOCAL: "mergearena.bench.runner.executors.local:Local"}


def names() -> tuple[str, ...]:
    """The executors that can be asked for."""
    return tuple(_EXECUTORS)


def get(name: str) -> Maker:
    """What makes the executor of that name. ``module:Class`` names one of your own.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    module, _, attribute = _EXECUTORS.get(name, name).partition(":")
    if not attribute:
        near = difflib.get_close_matches(name, _EXECUTORS, n=1)
        known = f"there are: {', '.join(_EXECUTORS)}, or your own module:Class"
        raise UnknownName(f"unknown executor {name!r}; {f'did you mean {near[0]!r}?' if near else known}")
    try:
        return cast("Maker", getattr(import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        if name in _EXECUTORS:
            raise
        raise UnknownName(f"executor {name!r} could not be loaded: {error}") from error
