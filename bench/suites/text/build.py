"""Build the text suite's fine-tuned models: full fine-tuning, seeded, against the frozen heads.

Nothing here is tuned on test: the published step of each run is the best one on validation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergearena.bench.files import atomic, checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.suites.base import Suite
from mergearena.bench.suites.figures import measure
from mergearena.bench.suites.ticker import ticker

if TYPE_CHECKING:
    from rich.progress import Progress

    from mergearena.bench.suites.text.suite import TextSuite

FIGURES = "figures.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one model is fine-tuned (AdamW without weight decay or dropout: the runs are under one epoch)."""

    steps: int = 100
    batch: int = 32
    learning_rate: float = 7e-5
    warmup: int = 10
    """Steps of linear warm-up; a linear decay to zero follows."""
    validate: tuple[int, ...] = (60, 80, 100)
    """Steps whose models compete on validation; the earliest of the best is kept."""
    seed: int = 0
    """Decides the order of the examples."""
    threads: int = 2
    """Sums are split among threads: with another number of them models come out a little different."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (1 - step / self.steps)


def finetune(
    suite: Suite, task: str, recipe: Recipe, on_step: Callable[[], None] = lambda: None
) -> tuple[StateDict, dict[int, float]]:
    """Fine-tune the base on one task.

    Args:
        suite: gives base, training and validation split, and the frozen head.
        task: name of the task.
        recipe: length, batch, learning rate and seed.
        on_step: called after each step.

    Returns:
        The best state on validation, and the validation score at each step of ``recipe.validate``.
    """
    inputs, labels = suite.load(task, "train")
    order = _order(len(labels), recipe)
    model = suite.encoder()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)
    curve: dict[int, float] = {}
    best: StateDict = {}
    with _threads(recipe.threads):
        for step, rows in enumerate(order):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            loss = suite.loss(model, task, inputs[rows], labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step + 1 in recipe.validate:
                state = {key: value.detach().clone() for key, value in model.state_dict().items()}
                score = suite.score(state, task, "validation")
                if not curve or score > max(curve.values()):
                    best = state
                curve[step + 1] = score
            on_step()
    return best, curve


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _order(examples: int, recipe: Recipe) -> Iterator[Tensor]:
    """Rows of each batch: one permutation of the examples after another, cut into full batches."""
    generator = torch.Generator().manual_seed(recipe.seed)
    needed = recipe.steps * recipe.batch
    epochs = [torch.randperm(examples, generator=generator) for _ in range(-(-needed // examples))]
    return iter(torch.cat(epochs)[:needed].split(recipe.batch))


def build(suite: TextSuite, seed: int, progress: Progress | None = None) -> dict[str, Any]:
    """Fine-tune a model per task into ``suite.zoo`` and measure them.

    Writes ``<task>.safetensors`` (float16), ``<task>.json`` and ``figures.json``, each model as soon
    as it is trained: an interrupted build goes on where it stopped.

    Args:
        suite: gives base, tasks and heads, and reads the models back to measure them.
        seed: decides the order of the examples.
        progress: shows steps and merges, if given.

    Returns:
        The figures (see :func:`mergearena.bench.suites.figures.measure`), with ``recipe`` and ``training`` added.
    """
    recipe, out = Recipe(seed=seed), suite.zoo
    training = {}
    for task in suite.tasks:
        weights, log = out / f"{task}.safetensors", out / f"{task}.json"
        stamp = {"key": suite.key, "seed": seed}
        if not (weights.is_file() and _stamped(log, stamp)):
            started = time.perf_counter()
            weights.unlink(missing_ok=True)  # the log is written first: it must never vouch for older weights
            state, curve = finetune(suite, task, recipe, ticker(progress, f"fine-tune {task}", recipe.steps))
            wall = time.perf_counter() - started
            _write_json(log, {**stamp, "validation": curve, "wall_seconds": wall})
            # Half precision halves the cache; the figures are measured on what is stored.
            checkpoints.save({key: value.half() for key, value in state.items()}, weights)
        training[task] = json.loads(log.read_text(encoding="utf-8"))
    started = time.perf_counter()
    figures = measure(suite, on_merge=ticker(progress, "measure merges", None))
    wall = time.perf_counter() - started
    figures |= {"recipe": asdict(recipe), "training": training, "measure_wall_seconds": wall}
    _write_json(out / FIGURES, figures)
    return figures


def _stamped(log: Path, stamp: dict[str, Any]) -> bool:
    """Whether a training log exists and carries the stamp."""
    return log.is_file() and stamp.items() <= json.loads(log.read_text(encoding="utf-8")).items()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(value, indent=1) + "\n")
