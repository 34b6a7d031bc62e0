"""Let torchvision import where its compiled operators cannot load.

open_clip and transformers import torchvision for image transforms only. The wheel that pip picks beside a CPU
build of torch is often linked against CUDA; its extension then fails to load *silently*, and the import dies
later on ``operator torchvision::nms does not exist``, because torchvision attaches Python kernels to operators
that nobody defined. Declaring the two schemas is enough: this project never calls the operators.

Import this module before the first import of torchvision, open_clip or transformers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _load_compiled_operators() -> bool:
    """Load torchvision's extension without importing torchvision; whether its operators are there after it."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # nothing to mend: whoever needs torchvision gets the ordinary ImportError
    for library in sorted(Path(spec.origin).parent.glob("_C.*")):
        try:
            torch.ops.load_library(str(library))
        except (ImportError, OSError):
            continue  # linked against a CUDA runtime or another torch
    return hasattr(torch.ops.torchvision, "nms")


def _declare() -> torch.library.Library | None:
    """Declare the missing schemas; the returned library must stay referenced, or they vanish again."""
    if _load_compiled_operators():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    return library


_LIBRARY = _declare()
