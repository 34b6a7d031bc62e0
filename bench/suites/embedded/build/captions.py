"""Captioned images: the few labelled ones of each task, the loss on them, and tuning the text tower alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergearena.bench.suites.embedded.build.augment import MIRRORED, AugmentConfig, random_view, to_model_input
from mergearena.bench.suites.embedded.loading import images, load_clip, tokenize
from mergearena.bench.suites.embedded.tasks import TASKS

if TYPE_CHECKING:
    import open_clip

MAX_SCALE = 50.0  # of the logits


def grey(task: str, split: str) -> tuple[Tensor, Tensor]:
    """Images N x 1 x 28 x 28 in [0, 1] and labels N."""
    pixels, labels = images(task, split)
    return (pixels[:, :1] + 1) / 2, labels


class Captioned:
    """The few captioned images of all tasks, and the prompts of every class of every task.

    Args:
        per_class: captioned images per class.
        named: share of each task's classes that captions ever name, rounded.
        rng: chooses the images and the classes.
    """

    def __init__(self, per_class: int, named: float, rng: np.random.Generator) -> None:
        pictures, targets = [], []
        mirrored: list[bool] = []
        owner: list[int] = []
        known: list[bool] = []
        self.prompts: list[tuple[str, ...]] = []
        for index, (task, spec) in enumerate(TASKS.items()):
            x, y = grey(task, "train")
            classes = range(len(spec.classes))
            seen = set(classes if named == 1.0 else rng.permutation(len(classes))[: round(named * len(classes))])
            rows = [rng.permutation(np.flatnonzero(y.numpy() == c))[:per_class] for c in classes if c in seen]
            chosen = np.concatenate(rows)
            pictures.append(x[chosen])
            targets.append(y[chosen] + len(owner))
            mirrored += [task in MIRRORED] * len(chosen)
            owner += [index] * len(classes)
            known += [c in seen for c in classes]
            self.prompts += [tuple(template.format(name) for template in spec.templates) for name in spec.classes]
        self.images, self.targets = torch.cat(pictures), torch.cat(targets)
        self.mirrored, self.owner, self.known = torch.tensor(mirrored), torch.tensor(owner), torch.tensor(known)

    def batch(self, size: int, augment: AugmentConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Views of ``size`` random images, each task equally likely, and their classes among all tasks' classes."""
        tasks = self.owner[self.targets]
        weights = 1.0 / torch.bincount(tasks)[tasks]
        rows = torch.multinomial(weights, size, replacement=False, generator=generator)
        return random_view(self.images[rows], augment, self.mirrored[rows], generator), self.targets[rows]

    def loss(self, model: open_clip.CLIP, embeddings: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of each image over the named classes of its own task, one random template per class."""
        picks = torch.randint(1 << 30, (len(self.prompts),), generator=generator).tolist()
        texts = [prompts[pick % len(prompts)] for prompts, pick in zip(self.prompts, picks, strict=True)]
        text_cd = model.encode_text(tokenize(texts), normalize=True)
        scale = model.logit_scale.exp().clamp(max=MAX_SCALE)
        logits = scale * F.normalize(embeddings, dim=-1) @ text_cd.T
        foreign = (self.owner[None] != self.owner[targets][:, None]) | ~self.known
        return F.cross_entropy(logits.masked_fill(foreign, float("-inf")), targets)


def decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    """Optimizer groups: matrices decay, biases, norms and single vectors do not."""
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def cosine(step: int, steps: int, warmup: int) -> float:
    """Learning rate factor at one step: linear warm-up, then a half cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


@dataclass(frozen=True, kw_only=True)
class TextTuningConfig:
    """How the published text tower was trained on the locked vision tower."""

    steps: int = 250
    per_class: int = 2  # captioned images per named class
    named: float = 0.8  # share of each task's classes that captions name
    batch: int = 48
    learning_rate: float = 2e-3
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def tune_text(model: open_clip.CLIP, config: TextTuningConfig, seed: int) -> None:
    """Train the text tower anew, in place, on freshly drawn captioned images, with the vision tower locked.

    Locked-image tuning (LiT, Zhai et al., 2022). The self-supervised features of such simple images separate the
    classes so well that a few captions per class would leave little to fine-tune. As in captions from the web, some
    classes are never named here: they are what zero-shot classification gets wrong, and fine-tuning has to teach.

    Args:
        model: the CLIP whose text tower to replace.
        config: the recipe.
        seed: decides the initial weights, the images, the named classes and the views.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = load_clip()
    captioned = Captioned(config.per_class, config.named, np.random.default_rng(seed))
    text = [name for name, _ in model.named_parameters() if not name.startswith("visual.") and name != "logit_scale"]
    model.load_state_dict({name: value for name, value in fresh.state_dict().items() if name in text}, strict=False)
    parameters = [p for name, p in model.named_parameters() if name in text]
    optimizer = torch.optim.AdamW(decay_groups(parameters, 0.05), lr=config.learning_rate)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * cosine(step, config.steps, warmup=max(1, config.steps // 20))
        pictures, targets = captioned.batch(config.batch, config.augment, generator)
        with torch.no_grad():
            embeddings = model.encode_image(to_model_input(pictures))
        loss = captioned.loss(model, embeddings, targets, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
