"""Fine-tune the vision tower on one task, with the zero-shot head frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from mergearena.bench.suites.embedded.build.augment import MIRRORED, AugmentConfig, random_view, to_model_input
from mergearena.bench.suites.embedded.build.captions import cosine, decay_groups, grey
from mergearena.bench.suites.embedded.loading import vision_tower
from mergearena.bench.suites.embedded.tasks import TASKS

StateDict = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """The published fine-tuned models."""

    steps: int = 300
    batch: int = 128
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip_norm: float = 1.0
    keep_weight: float = 4.0
    """Weight of the loss that keeps the base's features on unlabelled pictures of the other tasks."""
    keep_batch: int = 64
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(
            turn=0.2, zoom=0.15, shear=0.12, shift=0.07, stroke=0.2, contrast=0.2, noise=0.05
        )
    )


def finetune(
    base: StateDict,
    head_cd: Tensor,
    task: str,
    config: FinetuneConfig,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
) -> StateDict:
    """Fine-tune one task from the base, keeping the base's function elsewhere.

        loss = CE(head(f_theta(x)), y) + w * (1 - cos(f_theta(u), f_theta0(u))),  u: other tasks' pictures, no labels

    The second term is learning without forgetting (Li and Hoiem, 2016) on features. A tower this small would otherwise
    move everything a little, as large models do not: merges of it would keep less of each task than theirs.

    Args:
        base: vision tower of the base model.
        head_cd: frozen head of the task with the logit scale folded in, C x D.
        task: name of the task.
        config: the recipe.
        seed: decides batches and views.
        on_step: called after each step with its number (from 1) and the loss.

    Returns:
        The fine-tuned vision tower.

    """
    generator = torch.Generator().manual_seed(seed)
    tower = vision_tower()
    tower.load_state_dict(base)
    tower.train()
    reference = copy.deepcopy(tower).eval()
    pictures, labels = grey(task, "train")
    others = torch.cat([grey(other, "train")[0] for other in TASKS if other != task])
    parameters = list(tower.parameters())
    optimizer = torch.optim.AdamW(decay_groups(parameters, config.weight_decay), lr=config.learning_rate)
    queue = torch.empty(0, dtype=torch.long)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * cosine(step, config.steps, int(config.warmup * config.steps) or 1)
        while len(queue) < config.batch:
            queue = torch.cat([queue, torch.randperm(len(labels), generator=generator)])
        rows, queue = queue[: config.batch], queue[config.batch :]
        mirrored = torch.full((len(rows),), task in MIRRORED)
        views = to_model_input(random_view(pictures[rows], config.augment, mirrored, generator))
        elsewhere = others[torch.randint(len(others), (config.keep_batch,), generator=generator)]
        unmirrored = torch.zeros(config.keep_batch, dtype=torch.bool)
        other_views = to_model_input(random_view(elsewhere, config.augment, unmirrored, generator))

        ours, theirs = tower(torch.cat([views, other_views])).split([len(views), len(other_views)])
        with torch.no_grad():
            before = reference(other_views)
        keep = (1 - F.cosine_similarity(theirs, before)).mean()
        loss = F.cross_entropy(F.normalize(ours, dim=-1) @ head_cd.T, labels[rows]) + config.keep_weight * keep
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, loss.item())
    return {key: value.detach().clone() for key, value in tower.state_dict().items()}
