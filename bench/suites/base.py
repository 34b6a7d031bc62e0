"""What a suite is: a base model, fine-tuned models and their tasks behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.symmetry.architecture import Architecture, architecture_of

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.progress import Progress

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One classification task: what it is called, its classes and where its data come from."""

    name: str
    title: str
    classes: tuple[str, ...]
    source: str
    licence: str


class Suite(ABC):
    """A base checkpoint, its fine-tuned models, and tasks with frozen heads.

    Every input of a suite is one tensor whose first axis runs over examples (images N x 3 x H x W, or
    token ids N x L padded with zeros), so players and meters need not know the modality.
    """

    name: ClassVar[str]
    batch_size: ClassVar[int] = 256
    metric: ClassVar[str] = "accuracy"
    """What :meth:`score` measures."""

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Task]:
        """Task name -> task, in the suite's order."""

    @abstractmethod
    def dataset(self, task: str, split: Split) -> Dataset:
        """The raw examples of one split; reads no other split."""

    @abstractmethod
    def load(self, task: str, split: Split) -> tuple[Tensor, Tensor]:
        """Model-ready inputs (N x ...) and labels (N, int64) of one split; reads no other split."""

    @abstractmethod
    def encoder(self) -> nn.Module:
        """A fresh encoder in evaluation mode, float32, whose state dict keys are the suite's."""

    @abstractmethod
    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Embeddings B x D of a batch of inputs."""

    @abstractmethod
    def head(self, task: str) -> Tensor:
        """The frozen zero-shot head, C x D, with the logit scale folded in."""

    @abstractmethod
    def base(self) -> StateDict:
        """The public base model, float32."""

    @abstractmethod
    def finetuned(self, task: str) -> StateDict:
        """The base fine-tuned on one task, float32."""

    @abstractmethod
    def probes(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` random inputs (count x ...) that need no data: they only look like inputs from afar."""

    @property
    @abstractmethod
    def fine_tuning_examples(self) -> int:
        """Examples that fine-tuning one model took (steps x batch): the denominator of relative cost."""

    @property
    @abstractmethod
    def zoo(self) -> Path:
        """The folder of the fine-tuned models."""

    @property
    def private(self) -> tuple[Path, ...]:
        """Files and folders that no player may read, beside those that come with this project: data and models."""
        return ()

    @abstractmethod
    def figures(self) -> dict[str, Any] | None:
        """The figures beside the models (:func:`mergearena.bench.suites.figures.measure`), or None if not built."""

    @abstractmethod
    def build(self, out: Path, seed: int, progress: Progress | None = None) -> dict[str, Any]:
        """Train the models into ``out`` and return their figures."""

    def prepare(self, progress: Progress | None = None) -> None:
        """Build or fetch what must exist before the first use; a no-op for suites that ship everything."""

    @cached_property
    def architecture(self) -> Architecture:
        """Where the encoder's symmetries are."""
        return architecture_of(self.encoder())

    @cached_property
    def _scratch(self) -> nn.Module:
        """One encoder that :meth:`predict` loads states into, since building a module costs more than loading it."""
        return self.encoder()

    def logits(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """Class logits B x C: normalised features against the frozen head."""
        return self.classify(self.features(model, inputs), task)

    def classify(self, features: Tensor, task: str) -> Tensor:
        """Class logits B x C of features B x D that are known already."""
        return F.normalize(features, dim=-1) @ self.head(task).to(features.device).T

    def batches(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Cut tensors of equal length into batches of ``batch_size``."""
        return zip(*(t.split(self.batch_size) for t in tensors), strict=True)

    @torch.inference_mode()
    def embed(self, state: StateDict, inputs: Tensor) -> Tensor:
        """Features N x D of a state dict on inputs."""
        model = self._scratch
        model.load_state_dict(state)
        return self.batched_features(model, inputs)

    def batched_features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Features N x D of however many inputs, batch by batch."""
        return torch.cat([self.features(model, x) for (x,) in self.batches(inputs)])

    @torch.inference_mode()
    def predict(self, state: StateDict, task: str, inputs: Tensor) -> Tensor:
        """Logits N x C of a state dict on inputs."""
        return self.classify(self.embed(state, inputs), task)

    def score(self, state: StateDict, task: str, split: Split) -> float:
        """Share of the split's examples classified right."""
        inputs, labels = self.load(task, split)
        return (self.predict(state, task, inputs).argmax(-1) == labels).double().mean().item()
