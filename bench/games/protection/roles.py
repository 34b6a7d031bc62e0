"""Who sees what in the protection game, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games import match
from mergearena.bench.games.base import SPLITS, Facts, Files, Played, Steps
from mergearena.bench.games.examples import LazyExamples
from mergearena.bench.games.metering import forward_flops, metered
from mergearena.bench.games.protection.pipeline import Chain, Pipeline
from mergearena.bench.games.protection.players import AttackerView, DefenderView
from mergearena.bench.games.randomness import seeded
from mergearena.bench.merging.kernels import norm, task_vector
from mergearena.bench.players.views import Reads
from mergearena.bench.records.record import Scores
from mergearena.bench.suites import Suite
from mergearena.bench.suites.soundness import finite

if TYPE_CHECKING:
    from mergearena.bench.games.protection.play import Play

SCORING = "1"
"""Raised when what the judge computes changes: scores of two versions cannot be compared."""


def draw_examples(suite: Suite, task: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The ``count`` inputs and labels of a task that the data tiers may read, drawn from its training split."""
    inputs, labels = suite.load(task, "train")
    picked = torch.randperm(len(labels), generator=seeded("examples", suite.name, task, seed))[:count]
    return inputs[picked].clone(), labels[picked].clone()


class Distance(Facts):
    """How far the victim is from the base when it is merged."""

    task_vector_ratio: NonNegativeFloat | None = None


def protected(
    defense: Chain, suite: Suite, victim: str, seed: int, key: str, progress: Steps = lambda done, total: None
) -> StateDict:
    """What a defense makes of the model that was fine-tuned on the task ``victim``.

    Raises:
        BadCheckpoint: it is no model of the suite.
    """
    model = suite.finetuned(victim)
    view = DefenderView(
        suite=suite,
        base=suite.base(),
        tasks=(victim,),
        task=victim,
        # The key is secret: an attack that re-runs the defense's code must not find its random draw.
        generator=seeded(key, "release", victim, defense.spelling, seed),
        progress=progress,
    )
    return checkpoints.preflight(defense.protect(dict(model), view), model, f"defense {defense.spelling}")


def release(play: Play, suite: Suite, files: Files, progress: Steps) -> Played:
    """Protect the victim. Runs in the player's process; loads no test split."""
    with metered() as cost:
        state = protected(play.defense, suite, play.victim, play.seed, play.protocol.key, progress)
    return Played(state, cost)


def attacker_view(
    pipeline: Pipeline,
    suite: Suite,
    tasks: tuple[str, ...],
    released: StateDict,
    examples: Mapping[str, tuple[Tensor, Tensor]],
    seed: int,
    progress: Steps = lambda done, total: None,
) -> AttackerView:
    """What an attack on a released model sees. ``tasks``: the victim's, then the donors'."""
    victim, *donors = tasks
    return AttackerView(
        suite=suite,
        base=suite.base(),
        tasks=tasks,
        generator=seeded("attack", match.spell(tasks), pipeline.spelling, seed),
        released=released,
        victim=victim,
        donors={task: suite.finetuned(task) for task in donors},
        tier=pipeline.tier,
        examples=examples,
        reads=Reads(),
        progress=progress,
    )


def attack(play: Play, suite: Suite, files: Files, progress: Steps) -> Played:
    """Attack a released model. Runs in the player's process, which is given neither the victim nor the run key."""
    pipeline, theta0 = play.attack, suite.base()
    assert pipeline is not None
    released = checkpoints.load(files.given) if files.given else dict(theta0)
    examples = LazyExamples(files.examples)
    view = attacker_view(pipeline, suite, play.tasks, released, examples, play.seed, progress)
    aligned: list[StateDict] = []
    with metered() as cost:
        state = pipeline.run(view, on_aligned=aligned.append)
    cost.unlabelled_examples = sum(view.reads.unlabelled.values())
    cost.labelled_examples = sum(view.reads.labelled.values())
    ratio = None
    if aligned:
        of_donors = [norm(task_vector(state, theta0)) for state in view.donors.values()]
        ratio = norm(task_vector(aligned[0], theta0)) * len(of_donors) / max(sum(of_donors), 1e-30)
    model = checkpoints.preflight(state, theta0, f"attack {pipeline.spelling}")
    return Played(model, cost, Distance(task_vector_ratio=ratio))


def judge(play: Play, state: StateDict) -> dict[str, Any]:
    """Score what a player returned. Runs in the judge's process, the only one that loads test splits.

    Returns:
        Fields of the record: score, logit_difference (releases), evaluation_cost.

    Raises:
        BadCheckpoint: ``state`` is no model of this suite, or its answers are not finite.
    """
    suite = suites.get(play.protocol.suite)
    # Checked in the player's process, too, but what runs there may have been tampered with.
    state = checkpoints.preflight(state, suite.base(), play.title)
    with metered(count_flops=False) as cost:
        shares: dict[str, dict[str, float]] = {}
        for split in SPLITS:
            shares[split] = {
                task: finite(suite.assess(state, task, *suite.load(task, split)), task, play.title)
                for task in play.tasks
            }
        result: dict[str, Any] = {"score": Scores(**shares)}
        if play.kind == "release":
            inputs, _ = suite.load(play.victim, "validation")
            result["logit_difference"] = suite.distance(state, suite.finetuned(play.victim), play.victim, inputs)
    seen = sum(len(suite.load(task, split)[1]) for task in play.tasks for split in SPLITS)
    cost.flops = seen * forward_flops(suite)
    return {**result, "evaluation_cost": cost}
