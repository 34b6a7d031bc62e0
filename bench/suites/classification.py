"""Suites of classification tasks: features against frozen heads.

Letters: N examples, B of a batch, C classes, D width of the features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.base import Assessment, Suite, Task


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """A task that is to name the class of each input."""

    classes: tuple[str, ...]
    """In label order."""


class Classification(Suite):
    """Outputs are class logits B x C, targets are labels N (int64), the loss is cross-entropy."""

    metric = "accuracy"

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, ClassificationTask]:
        """Task name -> task, in the suite's order."""

    @abstractmethod
    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Embeddings B x D of a batch of inputs."""

    @abstractmethod
    def head(self, task: str) -> Tensor:
        """The frozen zero-shot head, C x D, with the logit scale folded in."""

    def classify(self, features: Tensor, task: str) -> Tensor:
        """Class logits B x C of features B x D that are known already: normalised, against the frozen head."""
        return F.normalize(features, dim=-1) @ self.head(task).to(features.device).T

    def outputs(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """Class logits B x C."""
        return self.classify(self.features(model, inputs), task)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy, in nats, of logits B x C and labels B."""
        return F.cross_entropy(outputs, targets)

    def divergence(self, outputs: Tensor, taught: Tensor, temperature: float = 1.0) -> Tensor:
        """D^2 KL(softmax(taught / D) | softmax(outputs / D)) of logits B x C, the mean over the batch."""
        soft = F.log_softmax(outputs / temperature, -1), F.log_softmax(taught / temperature, -1)
        return temperature**2 * F.kl_div(*soft, reduction="batchmean", log_target=True)

    def assess(self, state: StateDict, task: str, inputs: Tensor, targets: Tensor) -> Assessment:
        """Share of the examples classified right, and their mean cross-entropy. An answer not finite is wrong."""
        logits = self.predict(state, task, inputs)
        right = (logits.argmax(-1) == targets) & logits.isfinite().all(-1)
        return Assessment(right.double().mean().item(), self.criterion(logits, targets).item())

    @torch.inference_mode()
    def predict(self, state: StateDict, task: str, inputs: Tensor) -> Tensor:
        """Logits N x C of a state dict on inputs."""
        return self.classify(self.embed(state, inputs), task)

    @torch.inference_mode()
    def embed(self, state: StateDict, inputs: Tensor) -> Tensor:
        """Features N x D of a state dict on inputs."""
        with self.loaded(state) as model:
            return self.batched_features(model, inputs)

    def batched_features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Features N x D of however many inputs, batch by batch."""
        return torch.cat([self.features(model, x) for (x,) in self.batches(inputs)])


def classification(suite: Suite) -> Classification:
    """The same suite, for who needs classes, logits or features.

    Raises:
        ArenaError: it has none.
    """
    if isinstance(suite, Classification):
        return suite
    raise ArenaError(
        f"the suite {suite.name!r} has no classes (it is scored by {suite.metric}): what needs class logits, as the "
        "backdoor game does, plays on suites of classification tasks, such as embedded"
    )
