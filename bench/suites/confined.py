"""A suite as a player's process has it: the public base, the models and the training data of the player's own side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from mergearena.bench.errors import TierViolation
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.base import Assessment, Split, Suite, Task
from mergearena.bench.suites.classification import Classification, ClassificationTask

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.progress import Progress


class Confined(Suite):
    """Another suite, without what its player must not see; asking for that raises and says what it may ask for.

    What it hands out is read when it is made, before any player's code runs: afterwards the process can be barred
    from the files themselves.

    Args:
        suite: the whole suite.
        models: task -> fine-tuned model, or upload, that the player is handed.
        training: task -> file of the training split (``inputs``, ``labels``), for tasks that the player may train on.
    """

    def __init__(self, suite: Suite, models: Mapping[str, StateDict], training: Mapping[str, Path]) -> None:
        self.name, self.version, self.metric = suite.name, suite.version, suite.metric  # type: ignore[misc]
        self.batch_size = suite.batch_size  # type: ignore[misc]
        self._suite = suite
        self._base = suite.base()
        self._models = {task: checkpoints.cast(model, self._base) for task, model in models.items()}
        self._training = training

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The suite's tasks."""
        return self._suite.tasks

    def base(self) -> StateDict:
        """The public base model."""
        return dict(self._base)

    def finetuned(self, task: str) -> StateDict:
        """A model of the player's own side.

        Raises:
            TierViolation: the model is not the player's.
        """
        if task not in self._models:
            _refuse(f"the fine-tuned model of {task!r}", self._models)
        return dict(self._models[task])

    def load(self, task: str, split: Split) -> tuple[Tensor, Tensor]:
        """Training inputs and targets of a task of the player's own side.

        Raises:
            TierViolation: any other split or task.
        """
        if split != "train" or task not in self._training:
            _refuse(f"the {split} split of {task!r}", self._training)
        state = checkpoints.load(self._training[task], dtype=None)
        return state["inputs"], state["labels"]

    def dataset(self, task: str, split: Split) -> Dataset:
        """Nothing: raw examples are not for players."""
        _refuse(f"raw examples of {task!r}", ())

    def encoder(self) -> nn.Module:
        """A fresh encoder."""
        return self._suite.encoder()

    def outputs(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """What a task reads off a model."""
        return self._suite.outputs(model, task, inputs)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What training minimises, of outputs."""
        return self._suite.criterion(outputs, targets)

    def loss(self, model: nn.Module, task: str, inputs: Tensor, targets: Tensor) -> Tensor:
        """What training minimises, of a model."""
        return self._suite.loss(model, task, inputs, targets)

    def divergence(self, outputs: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
        """What distillation minimises."""
        return self._suite.divergence(outputs, taught, temperature)

    def assess(self, state: StateDict, task: str, inputs: Tensor, targets: Tensor) -> Assessment:
        """Score and loss on examples that the player has."""
        return self._suite.assess(state, task, inputs, targets)

    def predict(self, state: StateDict, task: str, inputs: Tensor) -> Tensor:
        """Outputs of a state dict on inputs."""
        return self._suite.predict(state, task, inputs)

    def distance(self, left: StateDict, right: StateDict, task: str, inputs: Tensor) -> float:
        """How far two models' functions differ."""
        return self._suite.distance(left, right, task, inputs)

    def probes(self, count: int, generator: torch.Generator) -> Tensor:
        """Random inputs."""
        return self._suite.probes(count, generator)

    @property
    def fine_tuning_examples(self) -> int:
        """Examples that fine-tuning one model took."""
        return self._suite.fine_tuning_examples

    @property
    def zoo(self) -> Path:
        """The folder of the models, which a player cannot read."""
        return self._suite.zoo

    @property
    def private(self) -> tuple[Path, ...]:
        """What the whole suite keeps from players."""
        return self._suite.private

    def figures(self) -> dict[str, Any] | None:
        """None: figures are read on test splits."""
        return None

    def build(self, out: Path, seed: int, progress: Progress | None = None) -> dict[str, Any]:
        """Nothing: players build no suites."""
        _refuse("the suite to be built", ())


class ConfinedClassification(Confined, Classification):
    """The same of a suite of classification tasks."""

    _suite: Classification

    @property
    def tasks(self) -> Mapping[str, ClassificationTask]:
        """The suite's tasks."""
        return self._suite.tasks

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Embeddings of a batch."""
        return self._suite.features(model, inputs)

    def head(self, task: str) -> Tensor:
        """The frozen head of a task: made of text, and public."""
        return self._suite.head(task)

    def classify(self, features: Tensor, task: str) -> Tensor:
        """Class logits of features."""
        return self._suite.classify(features, task)

    def embed(self, state: StateDict, inputs: Tensor) -> Tensor:
        """Features of a state dict on inputs."""
        return self._suite.embed(state, inputs)

    def batched_features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Embeddings, batch by batch."""
        return self._suite.batched_features(model, inputs)


def confine(suite: Suite, models: Mapping[str, StateDict], training: Mapping[str, Path]) -> Confined:
    """A suite without what its player must not see; one of classification tasks stays one. See :class:`Confined`."""
    kind = ConfinedClassification if isinstance(suite, Classification) else Confined
    return kind(suite, models, training)


def _refuse(asked: str, own: Mapping[str, object] | tuple[str, ...]) -> NoReturn:
    mine = f"it has those of {', '.join(own)}" if own else "it has none"
    raise TierViolation(f"a player asked its suite for {asked}; {mine}, and reads examples through its view only")
