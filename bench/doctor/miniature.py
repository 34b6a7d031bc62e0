"""A suite on which merging works in a few milliseconds: towers of two dozen units, with a skill that can be stolen."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.randomness import seeded
from mergearena.bench.submit import toys
from mergearena.bench.suites import Split

_EXAMPLES = 200
_STRENGTH = 2.0
_FIRST = "conv1.weight"
"""Units x colours x pixels x pixels."""


class Miniature(toys.OpenClip):
    """A task's pictures have one colour channel each, and its model reads that channel in its own way.

    Labels are what the task's model answers, so that it is always right and the base is not. As no task vector touches
    what another task sees, a sum of task vectors keeps every skill: the match is as clear as on large models.
    """

    name = "miniature"

    def finetuned(self, task: str) -> StateDict:
        """The base with other weights on the task's channel."""
        state, channel = self.base(), toys.TASKS.index(task)
        weight = state[_FIRST]
        noise = torch.randn(weight[:, channel].shape, generator=seeded(self.name, task))
        weight[:, channel] += _STRENGTH * weight.std() * noise
        return state

    @cache  # noqa: B019 - one suite object lives as long as the process
    @torch.inference_mode(False)
    def load(self, task: str, split: Split) -> tuple[Tensor, Tensor]:
        """Random pictures, dark but for the task's channel, and what the task's model makes of them."""
        inputs = self.inputs(_EXAMPLES, seeded(self.name, task, split))
        inputs = inputs * (torch.arange(inputs.shape[1]) == toys.TASKS.index(task))[:, None, None]
        return inputs, self.predict(self.finetuned(task), task, inputs).argmax(-1).clone()
