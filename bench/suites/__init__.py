"""Suites by name."""

from functools import cache
from importlib import import_module

from bench.errors import UnknownName
from bench.suites.base import Split, Suite, Task

_SUITES = {
    "embedded": "bench.suites.images:EmbeddedSuite",
    "text": "bench.suites.text:TextSuite",
}


def names() -> tuple[str, ...]:
    """The suites that can be asked for."""
    return tuple(_SUITES)


@cache
def get(name: str) -> Suite:
    """The suite of that name, loaded once.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    if name not in _SUITES:
        raise UnknownName(f"unknown suite {name!r}; there are: {', '.join(_SUITES)}")
    module, _, attribute = _SUITES[name].partition(":")
    return getattr(import_module(module), attribute)()


__all__ = ["Split", "Suite", "Task", "get", "names"]
