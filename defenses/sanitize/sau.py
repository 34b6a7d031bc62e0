"""SAU: unlearn the perturbed inputs that fool the model before and after its repair in the same way."""

import math

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.learning.perturbation import Norm, Perturbation
from mergearena.bench.learning.training import Examples, TrainingConfig, train
from mergearena.defenses.sanitize.own_answers import own_answers


@defenses.repair("sau", paper="arXiv 2307.10562, alg. 1", tier="unlabelled", cost="training")
def sau(
    merged: StateDict,
    view: MergerView,
    *,
    radius: NonNegativeFloat = 0.2,
    norm: Norm = "linf",
    clean: NonNegativeFloat = 1.0,
    unlearn: NonNegativeFloat = 1.0,
    fool: NonNegativeFloat = 0.01,
    agree: NonNegativeFloat = 1.0,
    ascents: NonNegativeInt = 3,
    steps: PositiveInt = 20,
    lr: PositiveFloat = 1e-4,
    batch_size: PositiveInt = 16,
) -> StateDict:
    """Train on from the merged model theta_m, y its own answer to x:

        min_theta  l1 CE(f_theta(x), y) + l2 mean_{x : y' != y} -log(1 - p_theta(y' | x + d)),   y' = f_theta_m(x + d)
        d = argmax_{|d| <= r}  l3 (CE(f_theta(x + d), y) + CE(f_theta_m(x + d), y)) / 2
                               - l4 JS(f_theta(x + d), f_theta_m(x + d))

    d is found per input by ``ascents`` steps of projected gradient ascent: it fools both models (l3 = ``fool``), and in
    the same way (l4 = ``agree``, the Jensen-Shannon divergence). Training takes away that class (l2 = ``unlearn``) and
    keeps the answers to clean inputs (l1 = ``clean``).

    Threat model: inputs with the trigger are among those that fool both models alike; with these unlearned, what is
    left of the trigger fools nobody. A trigger farther from clean inputs than the ball reaches escapes. Published: l1,
    l2, l4 = 1, l3 = 0.01, five steps in an l-infinity ball of 0.2, labelled data, up to 100 epochs. Deviations: no
    labels, fewer steps of both kinds; the radius is a share of the signal's root mean square, and texts are moved as
    embeddings.
    """
    data = own_answers(merged, view)
    before = view.model(merged).requires_grad_(False)

    def objective(model: nn.Module, batch: Examples) -> Tensor:
        total = torch.zeros(())
        for task, (inputs, answers) in batch.items():
            shift = shared(before, model, task, (inputs, answers), view, radius, norm, fool, agree, ascents)
            with torch.no_grad():
                fooled = shift.logits(before, task, inputs).argmax(-1)
            loss = clean * F.cross_entropy(view.logits(model, task, inputs), answers)
            loss = loss + unlearn * unlearning(shift.logits(model, task, inputs), answers, fooled)
            total = total + loss / len(batch)
        return total

    return train(merged, data, objective, view, TrainingConfig(steps=steps, lr=lr, batch_size=batch_size), clip=1.0)


def shared(
    before: nn.Module,
    model: nn.Module,
    task: str,
    examples: tuple[Tensor, Tensor],
    view: MergerView,
    radius: float,
    norm: Norm,
    fool: float,
    agree: float,
    ascents: int,
) -> Perturbation:
    """One perturbation per input that fools both models, and alike."""
    inputs, answers = examples
    shift = Perturbation(view, before, inputs, radius, norm, each=True)

    def loss() -> Tensor:
        ours, theirs = (shift.logits(m, task, inputs) for m in (model, before))
        fooled = (F.cross_entropy(ours, answers) + F.cross_entropy(theirs, answers)) / 2
        return fool * fooled - agree * jensen_shannon(ours, theirs)

    shift.ascend(loss, ascents, pace=2.5 / max(ascents, 3))
    # What is trained on is the perturbed input, not how it was found.
    shift.delta.requires_grad_(False)
    return shift


def unlearning(logits: Tensor, answers: Tensor, fooled: Tensor) -> Tensor:
    """Mean over the batch of -log(1 - p(y')) where y' = ``fooled`` is not the answer; logits B x C, classes B."""
    log_p = logits.log_softmax(-1)
    others = log_p.scatter(1, fooled[:, None], -torch.inf).logsumexp(-1)  # log(1 - p), also where p rounds to 1
    return torch.where(fooled != answers, -others, 0.0).mean()


def jensen_shannon(left: Tensor, right: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, of predictions given as logits B x C, the mean over the batch."""
    p, q = left.log_softmax(-1), right.log_softmax(-1)
    middle = torch.stack([p, q]).logsumexp(0) - math.log(2)
    parts = (F.kl_div(middle, x, reduction="batchmean", log_target=True) for x in (p, q))
    return torch.stack(list(parts)).mean()
