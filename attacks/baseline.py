"""Baselines that never touch the victim: what an attacker has without stealing (the floor of a match)."""

from typing import ClassVar

import attacks
from attacks.recover.finetune import Finetune
from bench.checkpoints import StateDict
from bench.game import Attack, AttackConfig, AttackerView, Config, CostClass, Tier
from bench.merging import TaskVectors, add_task_vector, default_scale


def merge_donors(view: AttackerView) -> StateDict:
    """Task arithmetic of the donors alone, with its published coefficient; a single donor is itself."""
    if len(view.donors) == 1:
        return dict(next(iter(view.donors.values())))
    vectors = TaskVectors(list(view.donors.values()), view.base)
    total = vectors.elementwise(lambda stack: stack.sum(0))
    return add_task_vector(view.base, total, default_scale(len(vectors)))


@attacks.register("base-only")
class BaseOnly(Attack):
    """The public base model theta0 itself: zero-shot accuracy."""

    uses_victim = False

    def attack(self, view: AttackerView) -> StateDict:
        """theta0."""
        return dict(view.base)


@attacks.register("donors-only")
class DonorsOnly(Attack):
    """The attacker's own models without the victim: one donor, or theta0 + lambda * sum of donor task vectors."""

    uses_victim = False

    class Config(AttackConfig):
        """Which donors."""

        donor: int | None = None
        """Index of a single donor to hand back; null merges them all by task arithmetic."""

    def attack(self, view: AttackerView) -> StateDict:
        """The donors' merge, or one donor."""
        if self.config.donor is None:
            return merge_donors(view)
        return dict(list(view.donors.values())[self.config.donor % len(view.donors)])


class _FinetuneBaseline(Attack):
    uses_victim = False
    base_tier = Tier.LABELLED
    cost_class = CostClass.TRAINING
    Config: ClassVar[type[Config]] = Finetune.Config

    def _finetune(self, state: StateDict, view: AttackerView) -> StateDict:
        return Finetune(self.config).recover(state, view)


@attacks.register("finetune-base")
class FinetuneBase(_FinetuneBaseline):
    """theta0 fine-tuned on the tier's labelled examples of every task: what the labels alone are worth."""

    def attack(self, view: AttackerView) -> StateDict:
        """theta0, fine-tuned."""
        return self._finetune(view.base, view)


@attacks.register("finetune-donors")
class FinetuneDonors(_FinetuneBaseline):
    """The donors' merge fine-tuned on the tier's labelled examples of every task."""

    def attack(self, view: AttackerView) -> StateDict:
        """The donors' merge, fine-tuned."""
        return self._finetune(merge_donors(view), view)
