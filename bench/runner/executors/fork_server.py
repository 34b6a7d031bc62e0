"""What the fork server imports before anything slow.

It ends with the run, and players and judges end with it: left to itself it would serve until the last of its children
has ended, since each child could ask it for more. And its children keep its own import path, where multiprocessing
would give them their parent's, on which are the current directory and the folder of the script that runs.
"""

from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing import spawn
from typing import Any

from mergearena.bench.runner.executors.lifeline import die_with_parent

die_with_parent()

_prepare = spawn.prepare


def _prepare_with_own_path(data: Mapping[str, Any]) -> None:
    """Prepare a child for its work; a main module that is not on its path is none that its work needs."""
    left_out = {"sys_path"} if _is_found(data.get("init_main_from_name")) else {"sys_path", "init_main_from_name"}
    _prepare({name: value for name, value in data.items() if name not in left_out})


def _is_found(module: str | None) -> bool:
    with suppress(ImportError, ValueError):
        return module is not None and find_spec(module) is not None
    return False


spawn.prepare = _prepare_with_own_path
