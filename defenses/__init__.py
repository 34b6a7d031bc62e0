"""Defenses: rewrites before release. Decorate a function or a class with ``@register("name")`` to add one."""

from bench.registry import register as _register

register = _register("defense")

__all__ = ["register"]
