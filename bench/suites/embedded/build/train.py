"""Build the zoo from nothing: base model and one fine-tuned vision tower per task.

The published base was trained on an earlier letters pack with all 26 letters; a build from the packs as they are gives
a close relative of it, not the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.embedded.build.finetune import FinetuneConfig, finetune
from mergearena.bench.suites.embedded.build.pretrain import PretrainConfig, train_base
from mergearena.bench.suites.embedded.loading import class_head
from mergearena.bench.suites.embedded.tasks import TASKS

if TYPE_CHECKING:
    import open_clip
    from rich.progress import Progress


@dataclass(frozen=True, kw_only=True)
class ZooConfig:
    """Everything that decides the published weights, beside the seed."""

    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)


def _bar(progress: Progress | None, title: str, total: int | None) -> Callable[..., None] | None:
    if progress is None:
        return None
    bar = progress.add_task(title, total=total)
    return lambda step, *_: progress.update(bar, completed=step)


def build_base(config: PretrainConfig, seed: int, progress: Progress | None = None) -> open_clip.CLIP:
    """Train the base and round it to what will be stored, so that fine-tuning starts from the published weights."""
    model = train_base(config, seed, _bar(progress, "base", config.steps))
    model.load_state_dict({key: value.half().float() for key, value in model.state_dict().items()})
    return model


def build_finetuned(
    model: open_clip.CLIP, config: FinetuneConfig, seed: int, progress: Progress | None = None
) -> Iterator[tuple[str, StateDict]]:
    """Task and fine-tuned vision tower, one after the other."""
    base = {key: value.clone() for key, value in model.visual.state_dict().items()}
    for index, task in enumerate(TASKS):
        with torch.no_grad():
            head = class_head(model, task)
        yield task, finetune(base, head, task, config, seed + 1 + index, _bar(progress, task, config.steps))


def build(out: Path, seed: int = 0, progress: Progress | None = None, config: ZooConfig | None = None) -> None:
    """Train the whole zoo and write it; whoever reads it back measures it.

    Args:
        out: directory for ``base.safetensors`` and ``{task}.safetensors``.
        seed: decides everything random; torch's own kernels may still round differently on another processor.
        progress: a running progress display, or none.
        config: the recipe; the published one by default.
    """
    config = config or ZooConfig()
    out.mkdir(parents=True, exist_ok=True)
    model = build_base(config.pretrain, seed, progress)
    save_half(model.state_dict(), out / "base.safetensors")
    for task, state in build_finetuned(model, config.finetune, seed, progress):
        save_half(state, out / f"{task}.safetensors")


def save_half(state: StateDict, path: Path) -> None:
    """Write a state in float16, atomically."""
    checkpoints.save({key: value.half() for key, value in state.items()}, path)
