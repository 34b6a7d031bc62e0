"""Baselines: what an attacker has without the victim's weights (the floor of a match), or from its answers alone."""

from pydantic import PositiveFloat, PositiveInt

from mergearena import attacks
from mergearena.attacks.merge.adamerging import AdaMerging
from mergearena.attacks.recover.distill import Distill, DistillConfig
from mergearena.attacks.recover.finetune import Finetune, FinetuneConfig
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import Attack, AttackerView
from mergearena.bench.merging.kernels import add_task_vector, default_scale
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import CostClass
from mergearena.bench.players.tier import Tier


def merge_donors(view: AttackerView) -> StateDict:
    """Task arithmetic of the donors alone, with its published coefficient; a single donor is itself."""
    if len(view.donors) == 1:
        return dict(next(iter(view.donors.values())))
    vectors = TaskVectors(list(view.donors.values()), view.base)
    total = vectors.elementwise(lambda stack: stack.sum(0))
    return add_task_vector(view.base, total, default_scale(len(vectors)))


@attacks.register("base-only")
class BaseOnly(Attack):
    """The public base model theta0 itself: zero-shot score."""

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


@attacks.register("adamerge-donors")
class AdamergeDonors(Attack):
    """The donors merged by AdaMerging without the victim, on the unlabelled examples of every task, its own too:

        theta0 + sum over donors of lambda_tl tau_tl,   min over lambda of sum over all tasks of mean_x H(p(y | x))

    What unlabelled examples alone are worth; with ``loss=cross-entropy``, labelled ones. See ``adamerging``.
    """

    uses_victim = False
    paper = AdaMerging.paper
    cost_class = CostClass.TRAINING
    Config = AdaMerging.Config

    @property
    def tier(self) -> Tier:
        """As AdaMerging's."""
        return AdaMerging(self.config).tier

    def attack(self, view: AttackerView) -> StateDict:
        """The donors' learned merge."""
        return AdaMerging(self.config).merge(view.donors, view)


class _FinetuneBaseline(Attack):
    uses_victim = False
    base_tier = Tier.LABELLED
    cost_class = CostClass.TRAINING

    class Config(FinetuneConfig):
        """As ``finetune``'s, with the budget of learning a skill and not of mending one."""

        steps: PositiveInt = 100
        """Gradient steps."""
        lr: PositiveFloat = 3e-4
        """Peak learning rate, annealed to zero along a cosine."""

    def _finetune(self, state: StateDict, view: AttackerView) -> StateDict:
        return Finetune(self.config).recover(state, view)


@attacks.register("finetune-base")
class FinetuneBase(_FinetuneBaseline):
    """theta0 fine-tuned on the tier's labelled examples of every task: what the labels alone are worth.

    theta <- AdamW(theta, 1/T sum_t CE(head_t(f_theta(x)), y)), from theta0.
    """

    def attack(self, view: AttackerView) -> StateDict:
        """theta0, fine-tuned."""
        return self._finetune(view.base, view)


@attacks.register("finetune-donors")
class FinetuneDonors(_FinetuneBaseline):
    """The donors' merge fine-tuned on the tier's labelled examples of every task.

    theta <- AdamW(theta, 1/T sum_t CE(head_t(f_theta(x)), y)), from theta0 + lambda * sum of donor task vectors.
    """

    def attack(self, view: AttackerView) -> StateDict:
        """The donors' merge, fine-tuned."""
        return self._finetune(merge_donors(view), view)


class _DistillBaseline(Attack):
    extraction = True
    paper = Distill.paper
    base_tier = Distill.base_tier
    cost_class = CostClass.TRAINING

    class Config(DistillConfig):
        """As ``distill``'s, with the budget of learning a skill and not of mending one."""

        steps: PositiveInt = 100
        """Gradient steps."""
        lr: PositiveFloat = 3e-4
        """Peak learning rate, annealed to zero along a cosine."""

    def _distill(self, state: StateDict, view: AttackerView) -> StateDict:
        return Distill(self.config).recover(state, view)


@attacks.register("distill-base")
class DistillBase(_DistillBaseline):
    """theta0 taught on unlabelled examples by the released model on its task, and by the donors on theirs:

        theta <- AdamW(theta, 1/T sum_t D^2 KL(softmax(z_t(x) / D) | softmax(head_t(f_theta(x)) / D))), from theta0

    It sees the released model's answers and none of its weights: what no defense that keeps the function can prevent.
    """

    def attack(self, view: AttackerView) -> StateDict:
        """theta0, taught."""
        return self._distill(view.base, view)


@attacks.register("distill-donors")
class DistillDonors(_DistillBaseline):
    """The donors' merge taught like ``distill-base``: the attacker's own skill is there already.

    theta <- AdamW(theta, 1/T sum_t D^2 KL(softmax(z_t(x) / D) | softmax(head_t(f_theta(x)) / D))), from
    theta0 + lambda * sum of donor task vectors.
    """

    def attack(self, view: AttackerView) -> StateDict:
        """The donors' merge, taught."""
        return self._distill(merge_donors(view), view)
