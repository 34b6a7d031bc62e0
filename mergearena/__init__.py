"""MergeArena: the adversarial-robustness benchmark for model merging.

In five lines::

    import mergearena

    suite = mergearena.load_suite("embedded")
    released = mergearena.protect("params", "animals")
    merged = mergearena.attack("weight-matching+gauge-anchor > task-arithmetic", released, "animals", ["mnist"])
    print({task: suite.score(merged, task, "test") for task in ("animals", "mnist")})

What is not named here is private. Players of one's own are registered by the decorators of ``mergearena.attacks`` and
``mergearena.defenses``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mergearena import _torchvision
from mergearena._facade import attack, benchmark, board, load_suite, protect

if TYPE_CHECKING:
    from types import ModuleType

    from mergearena import attacks, defenses

__version__ = "0.2.0"
__all__ = ["__version__", "attack", "attacks", "benchmark", "board", "defenses", "load_suite", "protect"]

_torchvision.install()


def __getattr__(name: str) -> ModuleType:
    """The decorators, imported when first asked for: they bring torch."""
    if name in ("attacks", "defenses"):
        return import_module(f"mergearena.{name}")
    raise AttributeError(f"module 'mergearena' has no attribute {name!r}")
