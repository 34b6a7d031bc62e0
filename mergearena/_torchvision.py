"""Let torchvision import where its compiled operators cannot load.

open_clip and transformers import torchvision for image transforms only. The wheel that pip picks beside a CPU
build of torch is often linked against CUDA; its extension then fails to load *silently*, and the import dies
later on ``operator torchvision::nms does not exist``, because torchvision attaches Python kernels to operators
that nobody defined. Declaring the two schemas is enough: this project never calls the operators.

``import mergearena`` calls :func:`install`, which costs nothing: the repair is made when torchvision is first imported,
by whomever.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


class _Repair(MetaPathFinder):
    """Finds nothing; asked for torchvision, it repairs it first, once."""

    library: Any = None
    """Declared schemas, which vanish when nothing refers to them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            self.library = _declare()
        return None


_REPAIR = _Repair()


def install() -> None:
    """Have torchvision repaired when it is first imported, if it has not been."""
    if "torchvision" not in sys.modules and _REPAIR not in sys.meta_path and _REPAIR.library is None:
        sys.meta_path.insert(0, _REPAIR)


def _load_compiled_operators() -> bool:
    """Load torchvision's extension without importing torchvision; whether its operators are there after it."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # nothing to mend: whoever needs torchvision gets the ordinary ImportError
    for library in sorted(Path(spec.origin).parent.glob("_C.*")):
        try:
            torch.ops.load_library(str(library))
        except (ImportError, OSError):
            continue  # linked against a CUDA runtime or another torch
    return hasattr(torch.ops.torchvision, "nms")


def _declare() -> Any:
    """Declare the missing schemas; None if nothing is missing."""
    if _load_compiled_operators():
        return None
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library
