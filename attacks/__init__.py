"""Attacks: align > merge > recover, or a malicious contributor; one file per method. Decorate a function or a class."""

from mergearena.bench.players.registry import registry as _registry

# Not `align`, `merge`, `recover`, `backdoor`: those are the folders of the methods.
aligner = _registry.register("align")
merger = _registry.register("merge")
recovery = _registry.register("recover")
register = _registry.register("attack")
contributor = _registry.register("backdoor")

__all__ = ["aligner", "contributor", "merger", "recovery", "register"]
