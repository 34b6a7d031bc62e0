"""A suite whose models are two-dozen-unit CLIP towers with random weights: for tests of machinery, not of score."""

from pathlib import Path

import torch
from torch import nn

from mergearena.bench.suites.classification import Classification, ClassificationTask
from mergearena.bench.suites.initial import initial_weights


def vision_tower() -> nn.Module:
    from open_clip.model import _build_vision_tower

    config = {"layers": 2, "width": 24, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 7, "image_size": 14}
    return _build_vision_tower(12, config)


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """The model in evaluation mode with every parameter random, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(parameter + 0.3 * noise.to(parameter.dtype))
    return model.eval()


class TinySuite(Classification):
    """Two-dozen-unit CLIP towers with random weights: a suite for tests of players, not of score."""

    name = "tiny"
    tasks = {
        name: ClassificationTask(name=name, title=name, classes=("x", "y", "z"), source="", licence="")
        for name in "abc"
    }
    fine_tuning_examples = 10_000

    def dataset(self, task, split):
        raise AssertionError("not used")

    def load(self, task, split):
        generator = torch.Generator().manual_seed(hash((ord(task), len(split))) % 1000)
        return torch.randn(20, 3, 14, 14, generator=generator), torch.randint(3, (20,), generator=generator)

    def probes(self, count, generator):
        return torch.randn(count, 3, 14, 14, generator=generator)

    def encoder(self):
        with initial_weights(seed=0):
            return randomized(vision_tower(), 0)

    def features(self, model, inputs):
        return model(inputs)

    def head(self, task):
        return torch.randn(3, 12, generator=torch.Generator().manual_seed(ord(task)))

    def base(self):
        return {k: v.clone() for k, v in self.encoder().state_dict().items()}

    def finetuned(self, task):
        generator = torch.Generator().manual_seed(ord(task))
        return {k: v + 0.05 * v.std() * torch.randn(v.shape, generator=generator) for k, v in self.base().items()}

    zoo = Path("nowhere")

    def figures(self):
        return None

    def build(self, out, seed, progress=None):
        raise AssertionError("not used")


class DoubleSuite(TinySuite):
    """The same in float64, for what float32 drowns in rounding."""

    name = "tiny-double"

    def load(self, task, split):
        inputs, labels = super().load(task, split)
        return inputs.double(), labels

    def encoder(self):
        return super().encoder().double()

    def head(self, task):
        return super().head(task).double()
