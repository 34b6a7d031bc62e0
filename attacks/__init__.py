"""Attacks: align > merge > recover, or a malicious contributor; one file per method. Decorate a function or a class."""

from bench.registry import register as _register

# Not `align`, `merge`, `recover`, `backdoor`: those are the folders of the methods.
aligner = _register("align")
merger = _register("merge")
recovery = _register("recover")
register = _register("attack")
contributor = _register("backdoor")

__all__ = ["aligner", "contributor", "merger", "recovery", "register"]
