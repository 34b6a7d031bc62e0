"""Suites by name."""

import difflib
import os
from functools import cache
from importlib import import_module
from pathlib import Path

from mergearena.bench.errors import UnknownName
from mergearena.bench.suites.base import Split, Suite, Task

_SUITES = {
    "embedded": "mergearena.bench.suites.embedded.suite:EmbeddedSuite",
    "text": "mergearena.bench.suites.text.suite:TextSuite",
}


def private() -> tuple[Path, ...]:
    """What no player may read of the suites above, whichever suite it plays on: data and fine-tuned models."""
    here = Path(__file__).parent
    models = (path for path in (here / "zoo").glob("*.safetensors") if path.stem != "base")
    return (here / "data", *models, cache_folder())


def cache_folder() -> Path:
    """Where models are kept that are built on first use."""
    return Path(os.environ.get("MERGEARENA_CACHE") or Path.home() / ".cache" / "mergearena")


def names() -> tuple[str, ...]:
    """The suites that can be asked for."""
    return tuple(_SUITES)


@cache
def get(name: str) -> Suite:
    """The suite of that name, loaded once. ``module:Class`` names a suite of your own.

    Raises:
        UnknownName: there is none; the message lists those there are.
    """
    module, _, attribute = _SUITES.get(name, name).partition(":")
    if not attribute:
        near = difflib.get_close_matches(name, _SUITES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_SUITES)}, or your own module:Class"
        raise UnknownName(f"unknown suite {name!r}; {hint}")
    try:
        return getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        if name in _SUITES:
            raise
        raise UnknownName(f"suite {name!r} could not be loaded: {error}") from error


__all__ = ["Split", "Suite", "Task", "get", "names"]
