"""Attacks: align > merge > recover, one file per method. Decorate a function or a class to add one."""

from bench.registry import register as _register

# Not `align`, `merge`, `recover`: those are the folders of the methods.
aligner = _register("align")
merger = _register("merge")
recovery = _register("recover")
register = _register("attack")

__all__ = ["aligner", "merger", "recovery", "register"]
