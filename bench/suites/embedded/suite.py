"""The embedded suite behind the common interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergearena.bench.files import atomic
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.base import Split
from mergearena.bench.suites.classification import Classification, ClassificationTask
from mergearena.bench.suites.embedded import loading
from mergearena.bench.suites.embedded.tasks import TASKS
from mergearena.bench.suites.figures import measure
from mergearena.bench.suites.ticker import ticker

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.progress import Progress


class EmbeddedSuite(Classification):
    """A small CLIP on six real image tasks; data and weights ship in the package.

    Args:
        zoo: folder of other weights, as ``mergearena zoo build --out`` writes them.
    """

    name = "embedded"
    batch_size = 64  # short batches stay in the processor's cache: 40 % faster than 256

    def __init__(self, zoo: Path = loading.ZOO) -> None:
        self._zoo = zoo

    @cached_property
    def tasks(self) -> Mapping[str, ClassificationTask]:
        """The six tasks."""
        return {
            name: ClassificationTask(
                name=name, title=spec.title, classes=spec.classes, source=spec.source, licence=spec.licence
            )
            for name, spec in TASKS.items()
        }

    @property
    def fine_tuning_examples(self) -> int:
        """Steps x pictures per step of the published recipe, its unlabelled ones included."""
        from mergearena.bench.suites.embedded.build.finetune import FinetuneConfig

        recipe = FinetuneConfig()
        return recipe.steps * (recipe.batch + recipe.keep_batch)

    def dataset(self, task: str, split: Split) -> Dataset:
        """Grey pictures and labels of one split."""
        return loading.load_split(task, split)

    @cache  # noqa: B019 - one suite object lives as long as the process
    @torch.inference_mode(False)  # what is cached must serve training too, whoever asks first
    def load(self, task: str, split: Split) -> tuple[Tensor, Tensor]:
        """Pictures N x 3 x 28 x 28 in [-1, 1] and labels N."""
        return loading.images(task, split)

    def probes(self, count: int, generator: torch.Generator) -> Tensor:
        """Smooth grey pictures: normal noise of 7 x 7 and, half as strong, of 14 x 14, interpolated."""
        coarse, fine = (
            F.interpolate(torch.randn(count, 1, n, n, generator=generator), size=(28, 28), mode="bicubic")
            for n in (7, 14)
        )
        return (coarse + 0.5 * fine).clamp(-1, 1).expand(-1, 3, -1, -1)

    def encoder(self) -> nn.Module:
        """The vision tower."""
        return loading.vision_tower()

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Image embeddings B x D."""
        return model(inputs)

    @cache  # noqa: B019
    @torch.inference_mode(False)
    def head(self, task: str) -> Tensor:
        """Zero-shot head from prompts, C x D."""
        return loading.head(task, self.zoo)

    def base(self) -> StateDict:
        """The vision tower before fine-tuning."""
        return loading.base_state(self.zoo)

    def finetuned(self, task: str) -> StateDict:
        """The vision tower fine-tuned on one task."""
        return loading.finetuned_state(task, self.zoo)

    @property
    def zoo(self) -> Path:
        """The folder of the weights, by default the one inside the package."""
        return self._zoo

    @property
    def private(self) -> tuple[Path, ...]:
        """Every model but the base."""
        return tuple(self.zoo / f"{task}.safetensors" for task in self.tasks)

    def figures(self) -> dict[str, Any] | None:
        """The figures shipped beside the weights."""
        path = self.zoo / "figures.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def build(self, out: Path, seed: int, progress: Progress | None = None) -> dict[str, Any]:
        """Train base and fine-tuned models from nothing, and measure them as they are stored."""
        from mergearena.bench.suites.embedded.build import train

        train.build(out, seed, progress)
        figures = measure(EmbeddedSuite(out), on_merge=ticker(progress, "measuring merges", None))
        atomic.write_text(out / "figures.json", json.dumps(figures, indent=1) + "\n")
        return figures
