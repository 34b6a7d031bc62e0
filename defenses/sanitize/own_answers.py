"""What repairs learn from: the tier's unlabelled examples, with the merged model's own answers in place of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.learning.perturbation import Perturbation
from mergearena.bench.learning.training import Examples

Share = Annotated[float, Field(ge=0, le=1)]


def own_answers(state: StateDict, view: MergerView) -> Examples:
    """Task -> its examples (k x ...) and the classes that ``state`` takes them for (k, int64)."""
    inputs = {task: view.unlabelled(task) for task in view.tasks}
    # Cloned out of inference mode, so that losses may keep them for their backward pass.
    return {task: (x, view.suite.predict(state, task, x).argmax(-1).clone()) for task, x in inputs.items()}


def batches(data: Examples, size: int, steps: int, view: MergerView) -> Iterator[Examples]:
    """One batch of every task per step, drawn with replacement; tells ``view.progress`` after each step."""
    for step in range(steps):
        batch = {}
        for task, (inputs, answers) in data.items():
            rows = torch.randint(len(inputs), (size,), generator=view.generator)
            batch[task] = inputs[rows], answers[rows]
        yield batch
        view.progress(step + 1, steps)


def mean_loss(logits: Mapping[str, Tensor], batch: Examples) -> Tensor:
    """1/T sum_t CE(logits of task t, its answers)."""
    losses = [F.cross_entropy(logits[task], answers) for task, (_, answers) in batch.items()]
    return torch.stack(losses).mean()


def mislead(trigger: Perturbation, model: nn.Module, task: str, examples: tuple[Tensor, Tensor], steps: int) -> None:
    """Move a perturbation up the cross-entropy of what the model takes the perturbed examples of a task for."""
    inputs, answers = examples
    trigger.ascend(lambda: F.cross_entropy(trigger.logits(model, task, inputs), answers), steps)
