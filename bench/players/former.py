"""Former import names, and what to write instead: files of players outlive a move of what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("attacks", "bench", "defenses", "leaderboard")
"""Once at top level, now below ``mergearena``."""

MODULES = {
    "activations": "learning.activations",
    "architecture": "symmetry.architecture",
    "assignment": "symmetry.assignment",
    "channels": "symmetry.channels",
    "checkpoints": "files.checkpoints",
    "coefficients": "learning.coefficients",
    "cost": "records.cost",
    "errors": "errors",
    "game": "players.player",
    "heads": "symmetry.heads",
    "masks": "learning.masks",
    "merging": "merging.kernels",
    "perturbation": "learning.perturbation",
    "pipeline": "games.protection.pipeline",
    "records": "records.record",
    "registry": "players.registry",
    "safe_merging": "games.backdoor.players",
    "scoring": "games.protection.scoring",
    "selection": "merging.selection",
    "shifts": "symmetry.shifts",
    "training": "learning.training",
    "triggers": "games.backdoor.triggers",
}
"""Former module of ``bench`` -> where most of it is."""

NAMES = {
    "Align": "games.protection.players",
    "Attack": "games.protection.players",
    "AttackerView": "games.protection.players",
    "CostClass": "players.stages",
    "Defense": "games.protection.players",
    "DefenderView": "games.protection.players",
    "DroppedVectors": "merging.vectors",
    "Merge": "players.stages",
    "Merger": "games.backdoor.pipeline",
    "MergingView": "players.views",
    "Recover": "games.protection.players",
    "Stage": "players.stages",
    "TaskVectors": "merging.vectors",
    "Tier": "players.tier",
    "Vectors": "merging.vectors",
    "View": "players.views",
    "metered": "games.metering",
    "working_dtype": "merging.vectors",
}
"""Name -> its module, where that is another than most of its former module's."""


def former_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and remedy of every import of a Python file by a former name."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # importing it tells more
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_former(node.module or ""):
            for alias in node.names:
                yield node.lineno, _remedy(node.module or "", alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_former(alias.name):
                    package, _, name = alias.name.rpartition(".")
                    yield node.lineno, _remedy(package, name)


def _is_former(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _remedy(module: str, name: str) -> str:
    """The statement that imports ``name`` of a former module today; of the top level, where ``module`` is empty."""
    package, _, inner = module.partition(".")
    if package == "bench" and inner in MODULES:
        return f"from mergearena.bench.{NAMES.get(name, MODULES[inner])} import {name}"
    if module == "bench" and name in MODULES:
        parent, _, last = f"mergearena.bench.{MODULES[name]}".rpartition(".")
        return f"from {parent} import {last}"
    return f"from mergearena{'.' * bool(module)}{module} import {name}"
