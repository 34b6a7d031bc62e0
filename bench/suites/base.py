"""What a suite is: a base model, fine-tuned models and their tasks behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.ties import Ties, ties_of, whole
from mergearena.bench.symmetry.architecture import Architecture, architecture_of

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.progress import Progress

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task: what it is called and where its data come from."""

    name: str
    title: str
    source: str
    licence: str


class Assessment(NamedTuple):
    """How good a model is on some examples; the better of two has the larger score, or at the same score less loss."""

    score: float
    """In [0, 1], of the suite's metric: 1 is perfect."""
    loss: float
    """What training minimises, over all examples at once."""


class Suite(ABC):
    """A base checkpoint, its fine-tuned models, and tasks that are scored alike.

    Every input of a suite is one tensor whose first axis runs over examples (images N x 3 x H x W, or
    token ids N x L padded with zeros), and so is every target, so players and meters need not know the modality.
    Shapes below: N examples, B of a batch.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    """Raised when data, splits, heads or evaluation change: scores of two versions cannot be compared."""
    metric: ClassVar[str]
    """What :meth:`score` measures, in a word, such as ``accuracy``."""
    batch_size: ClassVar[int] = 256

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Task]:
        """Task name -> task, in the suite's order."""

    @abstractmethod
    def dataset(self, task: str, split: Split) -> Dataset:
        """The raw examples of one split; reads no other split."""

    @abstractmethod
    def load(self, task: str, split: Split) -> tuple[Tensor, Tensor]:
        """Model-ready inputs (N x ...) and targets (N x ...) of one split; reads no other split."""

    @abstractmethod
    def encoder(self) -> nn.Module:
        """A fresh model in evaluation mode, float32, whose state dict keys are the suite's."""

    @abstractmethod
    def outputs(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """What a task reads off a model, B x ..., differentiable in the model's parameters."""

    @abstractmethod
    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The scalar that training minimises, of outputs B x ... and targets B x ..."""

    @abstractmethod
    def assess(self, state: StateDict, task: str, inputs: Tensor, targets: Tensor) -> Assessment:
        """Score and loss of a state dict on however many examples."""

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

    def loss(self, model: nn.Module, task: str, inputs: Tensor, targets: Tensor) -> Tensor:
        """The scalar that training minimises, of a model on a batch."""
        return self.criterion(self.outputs(model, task, inputs), targets)

    def divergence(self, outputs: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
        """How far outputs B x ... are from a teacher's: the scalar that distillation minimises.

        D^2 mean (outputs / D - taught / D)^2, the same at every temperature D.
        """
        return F.mse_loss(outputs, taught)

    def score(self, state: StateDict, task: str, split: Split) -> float:
        """The suite's metric on one split, in [0, 1]: 1 is perfect."""
        return self.assess(state, task, *self.load(task, split)).score

    def distance(self, left: StateDict, right: StateDict, task: str, inputs: Tensor) -> float:
        """How far two models' functions differ: largest |difference| of outputs, over the right's largest |output|."""
        ours, theirs = (self.predict(state, task, inputs) for state in (left, right))
        return ((ours - theirs).abs().max() / theirs.abs().max()).item()

    @torch.inference_mode()
    def predict(self, state: StateDict, task: str, inputs: Tensor) -> Tensor:
        """Outputs N x ... of a state dict on however many inputs."""
        with self.loaded(state) as model:
            return torch.cat([self.outputs(model, task, x) for (x,) in self.batches(inputs)])

    def batches(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Cut tensors of equal length into batches of ``batch_size``."""
        return zip(*(t.split(self.batch_size) for t in tensors), strict=True)

    @contextmanager
    def loaded(self, state: StateDict) -> Iterator[nn.Module]:
        """A model with these weights that is the caller's alone for the block, and another's with others after it.

        A tensor of several names needs one of them.
        """
        complete = whole(state, self.ties)
        with self.borrowed() as model:
            model.load_state_dict(complete)
            yield model

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """A model, with whatever weights, that is the caller's alone for the block."""
        try:
            model = self._idle.pop()
        except IndexError:
            model = self.encoder()
        try:
            yield model
        finally:
            self._idle.append(model)

    @cached_property
    def _idle(self) -> list[nn.Module]:
        """Models to load states into, since building one costs more: as many as were ever in use at once.

        Without a lock, which a process forked meanwhile would find closed forever: pop and append are atomic.
        """
        return []

    @cached_property
    def ties(self) -> Ties:
        """Names of the models' state dicts that share a tensor."""
        with self.borrowed() as model:
            return ties_of(model)

    @cached_property
    def architecture(self) -> Architecture:
        """Where the model's symmetries are."""
        return architecture_of(self.encoder())
