"""Defenses: rewrites before release, safe merges, and repairs of what was merged. Decorate a function or a class."""

from mergearena.bench.players.registry import registry as _registry

register = _registry.register("defense")
safe_merge = _registry.register("sanitize")
repair = _registry.register("repair")

__all__ = ["register", "repair", "safe_merge"]
