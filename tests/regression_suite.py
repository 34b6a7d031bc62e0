"""A suite without classes: a number is read off two-dozen-unit CLIP towers, and scored by whether it is near enough."""

from pathlib import Path

import torch
import torch.nn.functional as F

from mergearena.bench.suites import Suite, Task
from mergearena.bench.suites.base import Assessment
from mergearena.bench.suites.initial import initial_weights
from tiny_suite import randomized, vision_tower

TOLERANCE = 0.5


class RegressionSuite(Suite):
    """A task's target is what a random linear readout makes of its fine-tuned model's features."""

    name = "regression"
    metric = "within-tolerance"
    tasks = {name: Task(name=name, title=name, source="", licence="") for name in "abc"}
    fine_tuning_examples = 10_000
    batch_size = 16
    zoo = Path("nowhere")

    def load(self, task, split):
        generator = torch.Generator().manual_seed(ord(task) * 10 + len(split))
        inputs = self.probes(60, generator)
        return inputs, self.predict(self.finetuned(task), task, inputs).clone()

    def probes(self, count, generator):
        return torch.randn(count, 3, 14, 14, generator=generator)

    def encoder(self):
        with initial_weights(seed=0):
            return randomized(vision_tower(), 0)

    def outputs(self, model, task, inputs):
        readout = 0.2 * torch.randn(12, generator=torch.Generator().manual_seed(ord(task)))
        return model(inputs) @ readout

    def criterion(self, outputs, targets):
        return F.mse_loss(outputs, targets)

    def assess(self, state, task, inputs, targets):
        outputs = self.predict(state, task, inputs)
        near = (outputs - targets).abs() <= TOLERANCE
        return Assessment(near.double().mean().item(), self.criterion(outputs, targets).item())

    def base(self):
        return {k: v.clone() for k, v in self.encoder().state_dict().items()}

    def finetuned(self, task):
        generator = torch.Generator().manual_seed(ord(task))
        return {k: v + 0.2 * v.std() * torch.randn(v.shape, generator=generator) for k, v in self.base().items()}

    def dataset(self, task, split):
        raise AssertionError("not used")

    def figures(self):
        return None

    def build(self, out, seed, progress=None):
        raise AssertionError("not used")
