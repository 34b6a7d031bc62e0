"""Toy suites, one per architecture family of the symmetry map: models of a few thousand weights, random and untrained.

What a player does to them says whether it runs and keeps the rules, not whether it is any good. Labels are what the
task's fine-tuned model answers, so that training has something to learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.randomness import seeded
from mergearena.bench.suites import Split
from mergearena.bench.suites.classification import Classification, ClassificationTask
from mergearena.bench.suites.initial import initial_weights

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.progress import Progress

TASKS = ("a", "b", "c")
CLASSES = ("x", "y", "z")
_COUNT = {"train": 64, "validation": 48, "test": 48}
_SHAPE: dict[str, Any] = {"vocab_size": 256, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40}
_DECODER: dict[str, Any] = {
    **_SHAPE,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 16,
}


class Toy(Classification):
    """Three tasks of three classes on one family's architecture."""

    fine_tuning_examples = 128
    batch_size = 32

    def untrained(self) -> nn.Module:
        """A fresh module of the family."""
        raise NotImplementedError

    def inputs(self, count: int, generator: torch.Generator) -> Tensor:
        """Random inputs, count x ..."""
        raise NotImplementedError

    @property
    def tasks(self) -> Mapping[str, ClassificationTask]:
        """a, b and c."""
        common: dict[str, Any] = {"classes": CLASSES, "source": "", "licence": ""}
        return {name: ClassificationTask(name=name, title=name, **common) for name in TASKS}

    def encoder(self) -> nn.Module:
        """The module with every weight random, biases and norms too."""
        with initial_weights(seed=0):
            model = self.untrained()
        noise = seeded("toy", self.name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
        return model.eval()

    def base(self) -> StateDict:
        """The random model."""
        return {key: value.detach().clone() for key, value in self.encoder().state_dict().items()}

    def finetuned(self, task: str) -> StateDict:
        """The base plus a small random task vector."""
        noise = seeded("toy", self.name, task)
        return {
            key: value + 0.05 * value.std() * torch.randn(value.shape, generator=noise)
            if value.is_floating_point() and value.numel() > 1
            else value
            for key, value in self.base().items()
        }

    def load(self, task: str, split: Split) -> tuple[Tensor, Tensor]:
        """Random inputs, and what the task's fine-tuned model makes of them."""
        return _examples(self, task, split)

    def probes(self, count: int, generator: torch.Generator) -> Tensor:
        """Random inputs."""
        return self.inputs(count, generator)

    def head(self, task: str) -> Tensor:
        """C x D: a class is the direction in which one random input's features leave the mean."""
        some = F.normalize(self.embed(self.base(), self.inputs(32, seeded("toy", self.name, task, "head"))), dim=-1)
        mean = F.normalize(some.mean(0), dim=0)
        apart = some - some.mean(0)
        return 30 * (apart - (apart @ mean)[:, None] * mean)[: len(CLASSES)].clone()

    def dataset(self, task: str, split: Split) -> Dataset:
        """Nothing: there are no raw examples."""
        raise ArenaError("a toy has no raw examples")

    @property
    def zoo(self) -> Path:
        """No folder."""
        return Path(__file__).parent

    def figures(self) -> dict[str, Any] | None:
        """None."""
        return None

    def build(self, out: Path, seed: int, progress: Progress | None = None) -> dict[str, Any]:
        """Nothing to train."""
        raise ArenaError("a toy is not built")


class OpenClip(Toy):
    """A vision tower of open_clip on pictures of 14 x 14."""

    name = "toy-open_clip"

    def untrained(self) -> nn.Module:
        """Two layers, three heads."""
        from open_clip.model import CLIPVisionCfg, _build_vision_tower

        shape = CLIPVisionCfg(layers=2, width=24, head_width=8, mlp_ratio=2.0, patch_size=7, image_size=14)
        return _build_vision_tower(12, shape)

    def inputs(self, count: int, generator: torch.Generator) -> Tensor:
        """Pixels in [-1, 1]."""
        return 2 * torch.rand(count, 3, 14, 14, generator=generator) - 1

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Image embeddings."""
        return model(inputs)


class _Texts(Toy):
    """A model on texts of eight tokens."""

    def inputs(self, count: int, generator: torch.Generator) -> Tensor:
        """Token ids from 1 on: 0 would be padding."""
        return torch.randint(1, _SHAPE["vocab_size"], (count, 8), generator=generator)

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """What the model puts out at the last token: a hidden state, or logits. No text is padded."""
        out: Tensor = model(input_ids=inputs, attention_mask=torch.ones_like(inputs))[0]
        return out[:, -1]


class Bert(_Texts):
    """An encoder of BERT's family."""

    name = "toy-bert"

    def untrained(self) -> nn.Module:
        """Two layers, three heads."""
        from transformers import BertConfig, BertModel

        config = BertConfig(**_SHAPE, num_attention_heads=3, max_position_embeddings=16)
        return BertModel(config, add_pooling_layer=False)


class Llama(_Texts):
    """A decoder of Llama's family: rotary positions, grouped queries, a gated MLP, RMSNorm."""

    name = "toy-llama"
    kind: ClassVar[str] = "Llama"

    def untrained(self) -> nn.Module:
        """Two layers, four heads on two keys and values."""
        import transformers

        config = getattr(transformers, f"{self.kind}Config")(**_DECODER, tie_word_embeddings=False)
        model: nn.Module = getattr(transformers, f"{self.kind}ForCausalLM")(config)
        return model


class Qwen2(Llama):
    """The same with biases on queries, keys and values."""

    name = "toy-qwen2"
    kind = "Qwen2"


FAMILIES: dict[str, type[Toy]] = {"open_clip": OpenClip, "bert": Bert, "llama": Llama, "qwen2": Qwen2}


def suite_name(family: str) -> str:
    """How :func:`mergearena.bench.suites.get` is asked for a family's toy."""
    return f"{__name__}:{FAMILIES[family].__name__}"


@cache
@torch.inference_mode(False)
def _examples(suite: Toy, task: str, split: Split) -> tuple[Tensor, Tensor]:
    inputs = suite.inputs(_COUNT[split], seeded("toy", suite.name, task, split))
    return inputs, suite.predict(suite.finetuned(task), task, inputs).argmax(-1).clone()
