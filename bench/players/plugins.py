"""Files of one's own that register players."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from mergearena.bench.errors import ArenaError
from mergearena.bench.players.former import former_imports
from mergearena.bench.players.registry import registry


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
    for line, statement in former_imports(path):
        raise ArenaError(f"{path}, line {line}: everything is imported below mergearena; write `{statement}`")
    registry.load()  # kinds of players come with those that are installed
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with registry.opened():
            spec.loader.exec_module(module)
    except ArenaError:
        raise
    except Exception as error:  # whatever a stranger's file raises
        raise ArenaError(f"{path}: importing it raised {type(error).__name__}: {error}") from error
