"""The embedded suite: a small CLIP on six real image tasks, shipped inside the package.

Loading only; `build.packs` builds the data and `build.train` the weights.
Shapes below: N images, C classes, D embedding width, L context length.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.embedded.tasks import TASKS, TaskSpec
from mergearena.bench.suites.initial import initial_weights

if TYPE_CHECKING:
    import datasets
    import open_clip

__all__ = [
    "TASKS",
    "TaskSpec",
    "base_state",
    "class_head",
    "finetuned_state",
    "head",
    "images",
    "load_clip",
    "load_split",
    "tokenize",
    "vision_tower",
]

SIDE = 28  # pixels
SPLITS = ("train", "validation", "test")
_SUITES = Path(__file__).resolve().parent.parent
DATA = _SUITES / "data"
ZOO = _SUITES / "zoo"
_PAD, _SOT, _EOT = 0, 257, 258  # byte b has id b + 1; open_clip pools at the highest id, so that is the end


@cache
def _config() -> dict:
    return json.loads(Path(__file__).with_name("clip.json").read_text(encoding="utf-8"))


def load_clip() -> open_clip.CLIP:
    """An untrained open_clip model with the suite's architecture, in float32 and train mode.

    Initial weights come from torch's global generator, as everywhere in open_clip: seed it, or load a state.
    """
    import open_clip

    return open_clip.CLIP(**_config())


def vision_tower() -> nn.Module:
    """A fresh vision tower in eval mode, N x 3 x 28 x 28 -> N x D; load `base_state()` or another state into it."""
    with initial_weights():
        return load_clip().visual.eval()


def tokenize(texts: list[str]) -> Tensor:
    """Bytes of each text between start and end marks, padded to the context length.

    Returns:
        Long tensor, len(texts) x L.

    Raises:
        ValueError: if a text does not fit; cutting it off would silently change the class it names.

    """
    length = _config()["text_cfg"]["context_length"]
    tokens = torch.full((len(texts), length), _PAD, dtype=torch.long)
    for row, text in enumerate(texts):
        ids = [_SOT, *(byte + 1 for byte in text.encode("utf-8")), _EOT]
        if len(ids) > length:
            raise ValueError(f"{text!r} needs {len(ids)} tokens; the text tower reads {length}")
        tokens[row, : len(ids)] = torch.tensor(ids)
    return tokens


def class_head(model: open_clip.CLIP, task: str) -> Tensor:
    """Zero-shot head of one task: normalised mean of the normalised prompt features, times the logit scale, C x D."""
    spec = TASKS[task]
    prompts = [template.format(name) for name in spec.classes for template in spec.templates]
    features = model.encode_text(tokenize(prompts), normalize=True)
    mean = features.view(len(spec.classes), len(spec.templates), -1).mean(dim=1)
    return nn.functional.normalize(mean, dim=-1) * model.logit_scale.exp()


@cache
def _heads(zoo: Path) -> dict[str, Tensor]:
    with initial_weights():
        model = load_clip().eval()
    model.load_state_dict(checkpoints.load(zoo / "base.safetensors"))
    with torch.inference_mode(False), torch.no_grad():
        return {task: class_head(model, task) for task in TASKS}


def head(task: str, zoo: Path = ZOO) -> Tensor:
    """The frozen zero-shot head of a task, C x D float32, shared by the base and every fine-tuned model.

    Logits are ``normalize(vision_tower(images)) @ head(task).T``; the logit scale is folded in.
    """
    return _heads(zoo)[task].clone()


def base_state(zoo: Path = ZOO) -> StateDict:
    """The vision tower before fine-tuning, float32, keyed as ``vision_tower().state_dict()``."""
    return vision_part(checkpoints.load(zoo / "base.safetensors"))


def vision_part(state: StateDict) -> StateDict:
    """The vision tower's tensors of a whole CLIP, under the tower's own names."""
    prefix = "visual."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def finetuned_state(task: str, zoo: Path = ZOO) -> StateDict:
    """The vision tower fine-tuned on one task, float32, keyed as `base_state`."""
    return checkpoints.load(zoo / f"{task}.safetensors")


def _read(task: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N x 28 x 28 uint8) and labels (N int64) of one split; rows of other splits never leave the reader."""
    import pyarrow.parquet as pq

    if task not in TASKS:
        raise KeyError(f"no task {task!r}; there are {', '.join(TASKS)}")
    if split not in SPLITS:
        raise KeyError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    table = pq.read_table(DATA / f"{task}.parquet", columns=["image", "label"], filters=[("split", "=", split)])
    pixels = np.frombuffer(b"".join(table["image"].to_pylist()), dtype=np.uint8)
    return pixels.reshape(-1, SIDE, SIDE), table["label"].to_numpy().astype(np.int64)


def to_input(pixels: np.ndarray | Tensor) -> Tensor:
    """N x 28 x 28 uint8 grey values -> N x 3 x 28 x 28 float32 in [-1, 1]; the three channels share storage."""
    grey = torch.as_tensor(np.array(pixels) if isinstance(pixels, np.ndarray) else pixels)
    return grey.float().div(127.5).sub(1.0).unsqueeze(1).expand(-1, 3, -1, -1)


def images(task: str, split: str) -> tuple[Tensor, Tensor]:
    """Model input and labels of one split: N x 3 x 28 x 28 float32 and N long."""
    pixels, labels = _read(task, split)
    return to_input(pixels), torch.from_numpy(labels)


def load_split(task: str, split: str) -> datasets.Dataset:
    """One split as a dataset with the columns `image` (grey PIL image) and `label` (ClassLabel)."""
    import datasets
    from PIL import Image

    pixels, labels = _read(task, split)
    features = datasets.Features(
        {"image": datasets.Image(mode="L"), "label": datasets.ClassLabel(names=list(TASKS[task].classes))}
    )
    columns = {"image": [Image.fromarray(array) for array in pixels], "label": labels.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)
