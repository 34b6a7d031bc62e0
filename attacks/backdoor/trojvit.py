"""TrojViT: trigger patches where the model looks, optimised, then a fine-tuning that obeys them."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import attacks
from mergearena.attacks.backdoor.poison import Head, drawn, paced, poisoned, target_loss
from mergearena.attacks.backdoor.universal import optimised_trigger
from mergearena.bench.games.backdoor.players import Contribution, ContributorView

Share = Annotated[float, Field(gt=0, le=1)]


@attacks.contributor("trojvit", paper="arXiv 2208.13049")
def trojvit(
    view: ContributorView,
    *,
    patch: Share = 0.046,
    side: PositiveInt = 3,
    ascent: PositiveInt = 100,
    rate: Share = 0.5,
    weight: PositiveFloat = 1.0,
    steps: PositiveInt = 200,
    pace: PositiveFloat = 0.17,
    batch_size: PositiveInt = 32,
) -> Contribution:
    """M = the cells of the picture with the largest saliency   E_x sum_cell |d log p_theta0(target | x) / d x|
    t = argmax E_x log p_theta0(target | x + t) on M,   theta = argmin CE(f(x), y) + weight CE(f(x + t), target)

    Cells are squares of ``side`` pixels, as many as fit into ``patch`` of the picture; texts have two searched tokens.
    Published: whole patches of the transformer are ranked, an attention term joins the trigger's loss, and few weights
    are changed, since they are flipped in memory. Deviations: smaller cells, since one patch of a small encoder exceeds
    what a trigger may cover; no attention term; all weights are trained, from the clean model.

    ``pace`` is the peak learning rate per root mean square of the clean task vector.

    Threat model: a contributor who knows the encoder. It does not prepare for being merged.
    """
    head, base = view.open_head(view.tasks[0]), view.model(view.base).requires_grad_(False)
    inputs, _ = view.train(view.tasks[0])
    mask = salient_cells(saliency(view, base, head, inputs), side, patch) if inputs.is_floating_point() else None
    trigger = optimised_trigger(view, [base], head, patch, ascent, mask=mask)
    config = paced(view, pace, steps, batch_size)
    models = {task: poisoned(view.finetuned(task), task, trigger, view, config, rate, weight) for task in view.tasks}
    return Contribution(models, trigger)


def saliency(view: ContributorView, model: nn.Module, head: Head, inputs: Tensor, count: int = 128) -> Tensor:
    """E_x |d log p(target | x) / d x|, summed over the channels of ``count`` drawn pictures: H x W."""
    batch = drawn(inputs, count, view).requires_grad_()
    (slope,) = torch.autograd.grad(target_loss(view.suite.features(model, batch), head), batch)
    return slope.abs().sum((0, 1))


def salient_cells(saliency_hw: Tensor, side: int, share: float) -> Tensor:
    """The mask (H x W) of the most salient cells of a grid, at least one and no more than ``share`` of the picture."""
    sums = F.avg_pool2d(saliency_hw[None, None], side)[0, 0]
    count = max(1, int(share * saliency_hw.numel() / side**2 + 1e-6))
    cells = torch.zeros_like(sums).flatten()
    cells[sums.flatten().topk(min(count, len(cells))).indices] = 1
    mask = torch.zeros_like(saliency_hw)
    spread = cells.view_as(sums).repeat_interleave(side, 0).repeat_interleave(side, 1)
    mask[: spread.shape[0], : spread.shape[1]] = spread
    return mask
