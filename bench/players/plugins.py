"""Files of one's own that register players."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from mergearena.bench.errors import ArenaError
from mergearena.bench.players.registry import registry

_FORMER = ("attacks", "bench", "defenses", "leaderboard")
"""Top-level names under which parts of the project could once be imported."""


def plugin_module(path: Path) -> str:
    """The name of the module that a file is imported as."""
    return f"mergearena_plugin_{path.stem}"


def load_plugin(path: Path) -> None:
    """Import a file so that its decorators register its players.

    Raises:
        ArenaError: there is no such file, it imports the project by a former name, or importing it fails.
    """
    spec = importlib.util.spec_from_file_location(plugin_module(path), path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArenaError(f"{path}: not a Python file")
    for line, statement in _former_imports(path):
        raise ArenaError(f"{path}, line {line}: everything is imported below mergearena; write `{statement}`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with registry.opened():
            spec.loader.exec_module(module)
    except ArenaError:
        raise
    except Exception as error:  # whatever a stranger's file raises
        raise ArenaError(f"{path}: importing it raised {type(error).__name__}: {error}") from error


def _former_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and remedy of every import by a former name."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # importing it tells more
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_former(node.module or ""):
            names = ", ".join(alias.name for alias in node.names)
            yield node.lineno, f"from mergearena.{node.module} import {names}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_former(alias.name):
                    package, _, name = alias.name.rpartition(".")
                    below = f"mergearena.{package}" if package else "mergearena"
                    yield node.lineno, f"from {below} import {name}"


def _is_former(module: str) -> bool:
    return module.partition(".")[0] in _FORMER
