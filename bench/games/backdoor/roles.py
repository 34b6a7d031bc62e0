"""Who sees what in the backdoor game, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.errors import ArenaError
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.pipeline import parse_merger
from mergearena.bench.games.backdoor.players import Contribution, ContributorView, MergerView
from mergearena.bench.games.backdoor.triggers import Trigger, success
from mergearena.bench.games.backdoor.uploads import joined, parted
from mergearena.bench.games.base import SPLITS, Files, Played, Steps
from mergearena.bench.games.examples import LazyExamples
from mergearena.bench.games.match import spell
from mergearena.bench.games.metering import forward_flops, metered
from mergearena.bench.games.randomness import seeded
from mergearena.bench.players.tier import Tier
from mergearena.bench.players.views import Reads
from mergearena.bench.records.record import Scores, Shares
from mergearena.bench.suites import Split, Suite
from mergearena.bench.suites.classification import Classification, classification
from mergearena.bench.suites.soundness import finite

if TYPE_CHECKING:
    from mergearena.bench.games.backdoor.play import Play

SCORING = "1"
"""Raised when what the judge computes changes: scores of two versions cannot be compared."""

REFERENCE_MERGE = "task-arithmetic"
"""The merge of clean models whose reaction to a trigger is a reference."""


def halves(suite: Suite, task: str, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The validation split in two: what mergers may read (without labels), and what attacks are compared on."""
    inputs, labels = suite.load(task, "validation")
    rows = torch.randperm(len(labels), generator=seeded("halves", suite.name, task, seed))
    theirs, ours = rows.tensor_split(2)
    return (inputs[theirs], labels[theirs]), (inputs[ours], labels[ours])


def contribute(play: Play, suite: Suite, files: Files, progress: Steps) -> Played:
    """Make the uploads. Runs in the player's process; loads no test split."""
    tasks, theta0 = play.contributors[: play.malicious], suite.base()
    assert play.attack is not None
    assert play.target is not None
    view = ContributorView(
        suite=classification(suite),
        base=theta0,
        tasks=tasks,
        target=play.target,
        # The key is secret: a merger that re-runs the attack's code must not find its trigger.
        generator=seeded(play.protocol.key, "contribution", spell(tasks), play.attack.spelling, play.seed),
        progress=progress,
    )
    with metered() as cost:
        made = play.attack.contribute(view)
    made = checked(play, made, suite)
    tensors = {f"trigger/{name}": value.detach() for name, value in made.trigger.tensors().items()}
    return Played(tensors | joined(made.models), cost)


def checked(play: Play, made: Contribution, suite: Suite) -> Contribution:
    """The same uploads and trigger.

    Raises:
        ArenaError: they are not of the malicious contributors' tasks, or the trigger is out of bounds.
        BadCheckpoint: an upload is no model of the suite.
    """
    tasks, theta0 = play.contributors[: play.malicious], suite.base()
    name = play.attack.spelling if play.attack else ""
    if {*made.models} != {*tasks}:
        raise ArenaError(f"{name} returned uploads of {', '.join(made.models)}, not of {', '.join(tasks)}")
    made.trigger.check(suite.load(tasks[0], "train")[0])
    who = f"{name}, upload of"
    models = {task: checkpoints.preflight(state, theta0, f"{who} {task}") for task, state in made.models.items()}
    return Contribution(models, made.trigger)


def merge(play: Play, suite: Suite, files: Files, progress: Steps) -> Played:
    """Merge. Runs in the player's process, which is given neither the trigger nor who is malicious."""
    tasks, theta0, merger = play.contributors, suite.base(), play.defense
    assert merger is not None
    reads = Reads()
    view = MergerView(
        suite=classification(suite),
        base=theta0,
        tasks=tasks,
        contributions={task: suite.finetuned(task) for task in tasks},
        generator=seeded("merger", spell(tasks), merger.spelling, play.seed),
        tier=merger.tier,
        examples=LazyExamples(files.examples),
        reads=reads,
        progress=progress,
    )
    with metered() as cost:
        state = merger.run(view)
    cost.unlabelled_examples = sum(reads.unlabelled.values())
    return Played(checkpoints.preflight(state, theta0, f"merger {merger.spelling}"), cost)


def judge(play: Play, result: StateDict, upload: tuple[dict[str, StateDict], Trigger] | None) -> dict[str, Any]:
    """Score what a player returned. Runs in the judge's process, the only one that loads test splits.

    Args:
        play: a contribution, or a merge.
        result: the uploads and their trigger, or the merged model.
        upload: a merge's: the uploads and the trigger that it met.

    Returns:
        Fields of the record: score, under attack asr and robust, a contribution's references, evaluation_cost.

    Raises:
        ArenaError: the result is not what such a player returns, or its answers are not finite.
    """
    suite, tasks = classification(suites.get(play.protocol.suite)), play.contributors
    # Checked in the player's process, too, but what runs there may have been tampered with.
    if play.kind == "contribution":
        made = checked(play, Contribution(*parted(result)), suite)
    else:
        result = checkpoints.preflight(result, suite.base(), play.title)
    with metered(count_flops=False) as cost:
        if play.kind == "contribution":
            trigger = made.trigger
            alone = {task: made.models.get(task, made.models[tasks[0]]) for task in tasks}
            fields = _scores(play, alone, trigger)
            theta0 = suite.base()
            clean = _clean_merge(suite, tasks)
            for name, state in (("base_asr", theta0), ("clean_asr", clean)):
                obeyed = {s: {task: _reaction(play, task, state, s, trigger)[0] for task in tasks} for s in SPLITS}
                fields[name] = Shares(**obeyed)
            fields["clean_own_score"] = fmean(
                _score(play, task, suite.finetuned(task), "validation") for task in tasks[: play.malicious]
            )
        else:
            fields = _scores(play, dict.fromkeys(tasks, result), upload[1] if upload else None)
    seen = sum(len(labels) for split in SPLITS for task in tasks for _, labels in [_held(play, task, split)])
    # Uploads with and without trigger, base and clean merge with it; or a merge without, and with it if it is attacked.
    passes = 4 if play.kind == "contribution" else 1 + (upload is not None)
    cost.flops = seen * forward_flops(suite) * passes
    return {**fields, "evaluation_cost": cost}


def _scores(play: Play, models: Mapping[str, StateDict], trigger: Trigger | None) -> dict[str, Any]:
    """Score and, with a trigger, ASR and robust score of the model of each task, on both splits."""
    score, asr, robust = ({s: dict[str, float]() for s in SPLITS} for _ in range(3))
    for split in SPLITS:
        for task, state in models.items():
            score[split][task] = _score(play, task, state, split)
            if trigger is not None:
                asr[split][task], robust[split][task] = _reaction(play, task, state, split, trigger)
    scores: dict[str, Any] = {"score": Scores(**score)}
    return scores if trigger is None else scores | {"asr": Shares(**asr), "robust": Shares(**robust)}


def _score(play: Play, task: str, state: StateDict, split: Split) -> float:
    inputs, labels = _held(play, task, split)
    return finite(suites.get(play.protocol.suite).assess(state, task, inputs, labels), task, play.title)


def _reaction(play: Play, task: str, state: StateDict, split: Split, trigger: Trigger) -> tuple[float, float]:
    """ASR and robust score."""
    assert play.target is not None
    suite = classification(suites.get(play.protocol.suite))
    return success(suite, state, *_held(play, task, split), task, trigger, play.target)


def _held(play: Play, task: str, split: Split) -> tuple[Tensor, Tensor]:
    """What it is judged on: the test split, and the half of the validation split that no merger reads."""
    suite = suites.get(play.protocol.suite)
    return halves(suite, task, play.seed)[1] if split == "validation" else suite.load(task, split)


def _clean_merge(suite: Classification, tasks: Sequence[str]) -> StateDict:
    view = MergerView(
        suite=suite,
        base=suite.base(),
        tasks=tuple(tasks),
        contributions={task: suite.finetuned(task) for task in tasks},
        generator=torch.Generator(),
        tier=Tier.DATA_FREE,
        examples={},
    )
    return parse_merger(REFERENCE_MERGE).run(view)
