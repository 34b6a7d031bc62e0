"""Train the base CLIP: contrast between views of unlabelled images, beside image-text pairs for a few of them.

Real CLIP has strong features and a weak zero-shot head on any one task. Here the features come from SimCLR (Chen et
al., 2020) on all training images without labels, and the zero-shot head from a handful of captioned images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergearena.bench.suites.embedded.build.augment import MIRRORED, AugmentConfig, random_view, to_model_input
from mergearena.bench.suites.embedded.build.captions import (
    MAX_SCALE,
    Captioned,
    TextTuningConfig,
    cosine,
    decay_groups,
    grey,
    tune_text,
)
from mergearena.bench.suites.embedded.loading import load_clip
from mergearena.bench.suites.embedded.tasks import TASKS

if TYPE_CHECKING:
    import open_clip


_TEXT_SEED = 11  # apart from the seeds of the base and of fine-tuning


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The published base model."""

    steps: int = 3600
    tasks_per_step: int = 2
    pairs_per_task: int = 64
    captioned_per_class: int = 2
    captioned_batch: int = 48
    caption_weight: float = 1.0
    patch_dropout: float = 0.35  # of the patches of unlabelled views (FLIP, Li et al., 2023): speed and a harder task
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # of the steps
    temperature: float = 0.15
    clip_norm: float = 1.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    text: TextTuningConfig = field(default_factory=TextTuningConfig)


class SeededPatchDropout(nn.Module):
    """open_clip's patch dropout, drawing from a generator of its own; switched off at ``prob = 0``."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.prob = 0.0
        self.generator = generator

    def forward(self, tokens_nlw: Tensor) -> Tensor:
        """N x L x W tokens, the class token first -> N x kept x W."""
        if self.prob == 0.0:
            return tokens_nlw
        first, patches = tokens_nlw[:, :1], tokens_nlw[:, 1:]
        kept = max(1, int(patches.shape[1] * (1 - self.prob)))
        order = torch.rand(patches.shape[:2], generator=self.generator).topk(kept, dim=1).indices
        return torch.cat([first, patches.gather(1, order.unsqueeze(-1).expand(-1, -1, patches.shape[2]))], dim=1)


def contrast(first_nd: Tensor, second_nd: Tensor, temperature: float) -> Tensor:
    """NT-Xent loss (Chen et al., 2020, equation 1) of N positive pairs against each other."""
    features = F.normalize(torch.cat([first_nd, second_nd]), dim=-1)
    similarity = features @ features.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    count = len(first_nd)
    positives = torch.arange(2 * count).roll(count)
    return F.cross_entropy(similarity, positives)


def train_base(
    config: PretrainConfig, seed: int, on_step: Callable[[int, float, open_clip.CLIP], None] | None = None
) -> open_clip.CLIP:
    """Train a base model from nothing.

    Args:
        config: the recipe.
        seed: decides the initial weights, the captioned images, batches and views.
        on_step: called after each step with its number (from 1), the loss and the model.

    Returns:
        The model in eval mode, float32.

    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # open_clip and nn.Linear initialise from the global generator
        model = load_clip().train()
        embedding = model.visual.output_dim
        projector = nn.Sequential(nn.Linear(embedding, 2 * embedding), nn.GELU(), nn.Linear(2 * embedding, embedding))
    dropout = model.visual.patch_dropout = SeededPatchDropout(generator)
    captioned = Captioned(config.captioned_per_class, 1.0, np.random.default_rng(seed))
    unlabelled = {task: grey(task, "train")[0] for task in TASKS}
    names = list(TASKS)
    # A small set is seen less often, or its images would be repeated many times more than the others'.
    frequency = torch.tensor([len(unlabelled[task]) for task in names], dtype=torch.float).clamp(1500, 4000)

    parameters = [*model.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(
        decay_groups(parameters, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98)
    )
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * cosine(step, config.steps, int(config.warmup * config.steps) or 1)
        chosen = torch.multinomial(frequency, config.tasks_per_step, generator=generator).tolist()
        views = []
        for task in (names[i] for i in chosen):
            rows = torch.randint(len(unlabelled[task]), (config.pairs_per_task,), generator=generator).repeat(2)
            mirrored = torch.full((len(rows),), task in MIRRORED)
            views.append(random_view(unlabelled[task][rows], config.augment, mirrored, generator))
        dropout.prob = config.patch_dropout
        projected = projector(model.encode_image(to_model_input(torch.cat(views))))
        # Negatives come from the image's own task: telling a shoe from a digit teaches little.
        pairs = [part.chunk(2) for part in projected.chunk(config.tasks_per_step)]
        loss = torch.stack([contrast(first, second, config.temperature) for first, second in pairs]).mean()

        dropout.prob = 0.0
        pictures, targets = captioned.batch(config.captioned_batch, config.augment, generator)
        embeddings = model.encode_image(to_model_input(pictures))
        loss = loss + config.caption_weight * captioned.loss(model, embeddings, targets, generator)

        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, loss.item(), model)
    with torch.no_grad():
        model.logit_scale.clamp_(max=float(np.log(MAX_SCALE)))
    model.visual.patch_dropout = nn.Identity()
    tune_text(model.eval(), config.text, seed + _TEXT_SEED)
    return model.eval()
