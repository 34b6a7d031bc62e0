"""Who sees what in the protection game, and how it is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.base import SPLITS, Facts, Files, Played, Steps
from mergearena.bench.games.examples import LazyExamples
from mergearena.bench.games.metering import forward_flops, metered
from mergearena.bench.games.protection.players import AttackerView, DefenderView
from mergearena.bench.games.randomness import seeded
from mergearena.bench.merging.kernels import norm, task_vector
from mergearena.bench.players.views import Reads
from mergearena.bench.records.record import Scores
from mergearena.bench.suites import Suite

if TYPE_CHECKING:
    from mergearena.bench.games.protection.play import Play


def draw_examples(suite: Suite, task: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The ``count`` inputs and labels of a task that the data tiers may read, drawn from its training split."""
    inputs, labels = suite.load(task, "train")
    picked = torch.randperm(len(labels), generator=seeded("examples", suite.name, task, seed))[:count]
    return inputs[picked].clone(), labels[picked].clone()


class Distance(Facts):
    """How far the victim is from the base when it is merged."""

    task_vector_ratio: NonNegativeFloat | None = None


def release(play: Play, suite: Suite, files: Files, progress: Steps) -> Played:
    """Protect the victim. Runs in the player's process; loads no test split."""
    victim, theta0 = suite.finetuned(play.victim), suite.base()
    view = DefenderView(
        suite=suite,
        base=theta0,
        tasks=(play.victim,),
        task=play.victim,
        # The key is secret: an attack that re-runs the defense's code must not find its random draw.
        generator=seeded(play.protocol.key, "release", play.victim, play.defense, play.seed),
        progress=progress,
    )
    with metered() as cost:
        state = play.chain.protect(dict(victim), view)
    return Played(checkpoints.preflight(state, victim, f"defense {play.defense}"), cost)


def attack(play: Play, suite: Suite, files: Files, progress: Steps) -> Played:
    """Attack a released model. Runs in the player's process, which is given neither the victim nor the run key."""
    pipeline, theta0 = play.pipeline, suite.base()
    donors = {task: suite.finetuned(task) for task in play.donors}
    reads = Reads()
    view = AttackerView(
        suite=suite,
        base=theta0,
        tasks=play.tasks,
        generator=seeded("attack", "+".join(play.tasks), play.attack, play.seed),
        released=checkpoints.load(files.given) if files.given else dict(theta0),
        victim=play.victim,
        donors=donors,
        tier=pipeline.tier,
        examples=LazyExamples(files.examples),
        reads=reads,
        progress=progress,
    )
    aligned: list[StateDict] = []
    with metered() as cost:
        state = pipeline.run(view, on_aligned=aligned.append)
    cost.unlabelled_examples = sum(reads.unlabelled.values())
    cost.labelled_examples = sum(reads.labelled.values())
    ratio = None
    if aligned:
        of_donors = [norm(task_vector(state, theta0)) for state in donors.values()]
        ratio = norm(task_vector(aligned[0], theta0)) * len(of_donors) / max(sum(of_donors), 1e-30)
    return Played(
        checkpoints.preflight(state, theta0, f"attack {play.attack}"), cost, Distance(task_vector_ratio=ratio)
    )


def judge(play: Play, state: StateDict) -> dict[str, Any]:
    """Score what a player returned. Runs in the judge's process, the only one that loads test splits.

    Returns:
        Fields of the record: score, logit_difference (releases), evaluation_cost.

    Raises:
        BadCheckpoint: ``state`` is no model of this suite.
    """
    suite = suites.get(play.protocol.suite)
    # Checked in the player's process, too, but what runs there may have been tampered with.
    state = checkpoints.preflight(state, suite.base(), play.title)
    with metered(count_flops=False) as cost:
        shares: dict[str, dict[str, float]] = {}
        for split in SPLITS:
            shares[split] = {task: suite.score(state, task, split) for task in play.tasks}
        result: dict[str, Any] = {"score": Scores(**shares)}
        if play.kind == "release":
            result["logit_difference"] = _logit_difference(suite, play.victim, state)
    seen = sum(len(suite.load(task, split)[1]) for task in play.tasks for split in SPLITS)
    cost.flops = seen * forward_flops(suite)
    return {**result, "evaluation_cost": cost}


def _logit_difference(suite: Suite, task: str, state: StateDict) -> float:
    """Largest |difference| from the victim's logits on held-out inputs, over the victim's largest |logit|."""
    inputs, _ = suite.load(task, "validation")
    ours, theirs = suite.predict(state, task, inputs), suite.predict(suite.finetuned(task), task, inputs)
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
