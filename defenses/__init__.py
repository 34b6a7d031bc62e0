"""Defenses: rewrites before release, safe merges, and repairs of what was merged. Decorate a function or a class."""

from bench.registry import register as _register

register = _register("defense")
safe_merge = _register("sanitize")
repair = _register("repair")

__all__ = ["register", "repair", "safe_merge"]
