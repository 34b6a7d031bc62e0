"""AdaMerging: learned merge coefficients."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

import attacks
from attacks.examples import limited
from bench.checkpoints import StateDict
from bench.game import AttackConfig, CostClass, Merge, MergingView, Tier
from bench.merging import TaskVectors, add_task_vector, default_scale


@attacks.merger("adamerging")
class AdaMerging(Merge):
    """One coefficient per model and tensor, learned by gradient descent on the entropy of unlabelled predictions:

        theta_m = theta0 + sum_t lambda_tl tau_tl,   min over lambda of sum_t mean_x H(softmax(head_t(f_theta_m(x))))

    One batch of every task per step, Adam. With ``loss=cross-entropy`` to the labels in place of the entropy.
    Published: lambda starts at 0.3 (eight models), learning rate 1e-3, batches of 16, 500 steps and more on the test
    inputs. Deviations: the tier's examples, never test; a larger learning rate, so that fewer steps do.
    """

    paper = "arXiv 2310.02575, eq. 5"
    cost_class = CostClass.TRAINING

    class Config(AttackConfig):
        """What is learned, from where and for how long."""

        loss: Literal["entropy", "cross-entropy"] = "entropy"
        """``entropy`` of unlabelled predictions, or ``cross-entropy`` to the labels (tier ``labelled``)."""
        granularity: Literal["layer", "task"] = "layer"
        """One coefficient per model and tensor, or one per model."""
        init: float | None = None
        """Where every coefficient starts; null means task arithmetic's default for that many models."""
        steps: NonNegativeInt = 50
        """Gradient steps."""
        lr: PositiveFloat = 1e-2
        """Learning rate of Adam."""
        batch_size: PositiveInt = 16
        """Examples per task and step."""
        k: PositiveInt | None = None
        """Read at most that many examples of each task; null reads all that the tier gives."""

    @property
    def tier(self) -> Tier:
        """Labelled where labels are what it learns from."""
        return Tier.LABELLED if self.config.loss == "cross-entropy" else Tier.UNLABELLED

    def merge(self, models: Mapping[str, StateDict], view: MergingView) -> StateDict:
        """The merged model. ``models``: task -> aligned victim or donor, the victim first."""
        config, seen = self.config, limited(view, self.config.k)
        supervised = config.loss == "cross-entropy"
        data = {task: seen.labelled(task) if supervised else (seen.unlabelled(task), None) for task in view.tasks}
        blend = Blend(list(models.values()), view, per_tensor=config.granularity == "layer")
        init = default_scale(len(models)) if config.init is None else config.init
        lambda_tl = torch.full((len(models), blend.groups), init)
        optimizer = torch.optim.Adam([lambda_tl], lr=config.lr)
        for _ in range(config.steps):
            blend.load(lambda_tl)
            loss = torch.zeros(())
            for task, (inputs, labels) in data.items():
                batch = torch.randint(len(inputs), (config.batch_size,), generator=view.generator)
                logits = view.logits(blend.model, task, inputs[batch])
                loss = loss + (entropy(logits) if labels is None else F.cross_entropy(logits, labels[batch]))
            lambda_tl.grad = blend.gradient(loss)
            optimizer.step()
        return blend.state(lambda_tl)


class Blend:
    """A module whose weights are theta0 + sum_t lambda_tl tau_tl, and the gradient of a loss of it in lambda."""

    def __init__(self, models: Sequence[StateDict], view: MergingView, per_tensor: bool) -> None:
        """Take T models; their coefficients are T x L for L tensors (``per_tensor``), else T x 1."""
        self.base = view.base
        vectors = TaskVectors(models, view.base)
        self.tau = {key: vectors.stacked(key).flatten(1).clone() for key in vectors.keys}
        self.model = view.model(view.base)
        self.groups = len(self.tau) if per_tensor else 1

    def state(self, lambda_tl: Tensor) -> StateDict:
        """The merged weights."""
        columns = lambda_tl.expand(-1, len(self.tau)).T
        total = {
            key: (column.to(tau.dtype) @ tau).view(self.base[key].shape)
            for (key, tau), column in zip(self.tau.items(), columns, strict=True)
        }
        return add_task_vector(self.base, total, 1.0)

    def load(self, lambda_tl: Tensor) -> None:
        """Put the merged weights into the module."""
        self.model.load_state_dict(self.state(lambda_tl))

    def gradient(self, loss: Tensor) -> Tensor:
        """In lambda: d loss / d lambda_tl = <d loss / d theta_l, tau_tl>, over all tensors that share a coefficient."""
        parameters = dict(self.model.named_parameters())
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        slopes = dict(zip(parameters, found, strict=True))
        columns = [
            tau.new_zeros(len(tau)) if slopes.get(key) is None else tau @ slopes[key].flatten().to(tau.dtype)
            for key, tau in self.tau.items()
        ]
        gradient_tl = torch.stack(columns, dim=1).float()
        return gradient_tl if self.groups > 1 else gradient_tl.sum(1, keepdim=True)


def entropy(logits: Tensor) -> Tensor:
    """The mean entropy, in nats, of predictions given as logits B x C."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()
