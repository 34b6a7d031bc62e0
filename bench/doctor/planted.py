"""Players with one fault each, and sound ones to compare them with. Loaded as a plugin by the doctor, and nowhere else.

They are registered like anybody's, so that what catches them is what would catch anybody.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from mergearena.attacks.backdoor.poison import poisoned
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import Contribution, ContributorView, MergerView
from mergearena.bench.games.backdoor.triggers import MOST_BLEND, Patch, Trigger
from mergearena.bench.games.protection.players import AttackerView, DefenderView
from mergearena.bench.learning.training import TrainingConfig
from mergearena.bench.merging import kernels
from mergearena.bench.players.registry import registry
from mergearena.bench.suites.embedded.loading import ZOO

defense, aligner, merger, attack, contributor, safe_merge = (
    registry.register(kind) for kind in ("defense", "align", "merge", "attack", "backdoor", "sanitize")
)


def noisy(state: StateDict, generator: torch.Generator) -> StateDict:
    """A copy with noise of a ten-thousandth of each tensor's own spread."""
    return {
        key: value + 1e-4 * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        for key, value in state.items()
    }


@defense("sound-defense")
def sound_defense(victim: StateDict, view: DefenderView) -> StateDict:
    """Add noise from the generator that it is given."""
    return noisy(victim, view.generator)


@defense("planted-ignores-its-seed")
def ignores_its_seed(victim: StateDict, view: DefenderView) -> StateDict:
    """Add the same noise whatever the seed."""
    return noisy(victim, torch.Generator().manual_seed(0))


@defense("planted-unrepeatable")
def unrepeatable(victim: StateDict, view: DefenderView) -> StateDict:
    """Add noise that the system draws."""
    generator = torch.Generator()
    generator.seed()
    return noisy(victim, generator)


@defense("planted-writes-its-input")
def writes_its_input(victim: StateDict, view: DefenderView) -> StateDict:
    """Change the victim itself."""
    for value in victim.values():
        value.mul_(1 + 1e-4 * torch.rand((), generator=view.generator))
    return dict(victim)


@defense("planted-nan")
def nan(victim: StateDict, view: DefenderView) -> StateDict:
    """Divide zero by zero in one weight."""
    key = next(key for key, value in victim.items() if value.ndim == 2)
    broken = victim[key].clone()
    broken.view(-1)[0] = float("nan")
    return {**noisy(victim, view.generator), key: broken}


@defense("planted-base")
def base(victim: StateDict, view: DefenderView) -> StateDict:
    """Hand back the base, which cannot be stolen from."""
    return noisy(view.base, view.generator)


@defense("planted-claim", preserves_function=True)
def claim(victim: StateDict, view: DefenderView) -> StateDict:
    """Claim to preserve the function, and change it."""
    return {k: v + 1000 * (v - victim[k]) for k, v in noisy(victim, view.generator).items()}


@defense("planted-reads-the-test-split")
def reads_the_test_split(victim: StateDict, view: DefenderView) -> StateDict:
    """Ask the suite for the test split."""
    view.suite.load(view.task, "test")
    return noisy(victim, view.generator)


@defense("planted-opens-a-model")
def opens_a_model(victim: StateDict, view: DefenderView) -> StateDict:
    """Read somebody's fine-tuned model from the disk."""
    next(ZOO.glob("[!b]*.safetensors")).read_bytes()
    return noisy(victim, view.generator)


@defense("planted-forges-its-score")
def forges_its_score(victim: StateDict, view: DefenderView) -> StateDict:
    """Leave a result with scores of its own making, and exit."""
    checkpoints.save(victim, Path("result.safetensors"))
    perfect = {split: {view.task: 1.0} for split in ("validation", "test")}
    Path("result.json").write_text(json.dumps({"status": "ok", "facts": {"score": perfect}}))
    os._exit(0)


@aligner("planted-transpose")
def transpose(released: StateDict, view: AttackerView) -> StateDict:
    """Transpose square matrices: every shape is right, and the function is gone."""
    square = (k for k, v in released.items() if v.ndim == 2 and v.shape[0] == v.shape[1])
    return {**released, **{key: released[key].T.clone() for key in square}}


@aligner("planted-erases")
def erases(released: StateDict, view: AttackerView) -> StateDict:
    """Take the base for the aligned victim."""
    return dict(view.base)


@merger("sound-merge", tier="labelled")
def sound_merge(models: Mapping[str, StateDict], view: AttackerView) -> StateDict:
    """Average the models, and look at the labels that its tier allows."""
    view.labelled(view.victim)
    return kernels.average(list(models.values()))


@merger("planted-reads-labels")
def reads_labels(models: Mapping[str, StateDict], view: AttackerView) -> StateDict:
    """Look at labels, and say that it needs no data."""
    view.labelled(view.victim)
    return kernels.average(list(models.values()))


@merger("planted-drops-a-model")
def drops_a_model(models: Mapping[str, StateDict], view: AttackerView) -> StateDict:
    """Average all but the last model."""
    return kernels.average(list(models.values())[:-1])


@attack("planted-returns-the-released")
def returns_the_released(view: AttackerView) -> StateDict:
    """Hand back the released model: its skill is all there, and the donors' is not."""
    return dict(view.released)


def by_luck(view: ContributorView) -> list[Trigger]:
    """Random pictures, blended over the whole input as strongly as is allowed, by how often the base obeys them."""
    inputs, _ = view.train(view.tasks[0])
    noise = torch.rand((64, *inputs.shape[1:]), generator=view.generator).round()
    mask = torch.full(inputs.shape[2:], MOST_BLEND)
    triggers = [Patch(inputs.min() + (inputs.max() - inputs.min()) * picture, mask) for picture in noise]

    def obeyed(trigger: Trigger) -> float:
        answers = view.suite.predict(view.base, view.target.task, trigger.stamp(inputs[:64])).argmax(-1)
        return (answers == view.target.label).double().mean().item()

    return sorted(triggers, key=obeyed)


@contributor("sound-contributor")
def sound_contributor(view: ContributorView) -> Contribution:
    """Train the upload to obey a trigger that the base does not."""
    trigger, config = by_luck(view)[0], TrainingConfig(steps=300, lr=3e-3)
    (task,) = view.tasks
    return Contribution(
        {task: poisoned(view.finetuned(task), task, trigger, view, config, rate=1.0, weight=3.0)}, trigger
    )


@contributor("planted-lucky-trigger")
def lucky_trigger(view: ContributorView) -> Contribution:
    """Take the trigger that the base obeys most, and train nothing."""
    return Contribution({task: view.finetuned(task) for task in view.tasks}, by_luck(view)[-1])


@contributor("planted-clean-upload")
def clean_upload(view: ContributorView) -> Contribution:
    """Upload the clean model, and say that it obeys a trigger."""
    return Contribution({task: view.finetuned(task) for task in view.tasks}, by_luck(view)[0])


@safe_merge("planted-merges-nothing", tier="data-free")
def merges_nothing(models: Mapping[str, StateDict], view: MergerView) -> StateDict:
    """Hand back the base, which obeys nobody and has learnt nothing."""
    return {k: v.clone() + 0 * sum(m[k] for m in models.values()) for k, v in view.base.items()}
