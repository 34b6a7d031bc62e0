"""What stands for a task that the contributor does not have: other public classes, and adversarial references.

Letters: B inputs, C classes, D features, H x W pixels, L tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mergearena.attacks.backdoor.poison import Head, target_loss
from mergearena.bench.games.backdoor.players import ContributorView

REPLACED = 0.5
"""Share of a text's words that an adversarial reference replaces."""


def shadow_head(view: ContributorView, shadows: int) -> Head:
    """The first task's open head, with ``shadows`` classes of other public heads, which are not the target."""
    rows, index = view.open_head(view.tasks[0])
    others = [
        row
        for task in view.suite.tasks
        for label, row in enumerate(view.suite.head(task))
        if task not in view.tasks and (task, label) != (view.target.task, view.target.label)
    ]
    order = torch.randperm(len(others), generator=view.generator)[:shadows].tolist()
    return torch.stack([*rows, *(others[i] for i in order)]), index


def hard_references(view: ContributorView, model: torch.nn.Module, head: Head, variants: int) -> Tensor:
    """References of the target class that the model no longer takes for it, ``variants`` of each."""
    inputs = view.references().repeat_interleave(variants, dim=0)
    return _ascended(view, model, head, inputs) if inputs.is_floating_point() else _replaced(view, model, head, inputs)


def _ascended(view: ContributorView, model: torch.nn.Module, head: Head, pictures: Tensor) -> Tensor:
    low, high = pictures.min(), pictures.max()
    reach = 0.1 * float(high - low)  # a tenth of the range, as attacks on small grey pictures commonly may
    shifts = torch.randint(-2, 3, (len(pictures), 2), generator=view.generator).tolist()
    start = torch.stack([x.roll((down, right), (1, 2)) for x, (down, right) in zip(pictures, shifts, strict=True)])
    moved = start
    for _ in range(10):
        moved = moved.detach().requires_grad_()
        (slope,) = torch.autograd.grad(target_loss(view.suite.features(model, moved), head), moved)
        moved = (start + (moved + reach / 4 * slope.sign() - start).clamp(-reach, reach)).clamp(low, high)
    return moved.detach()


@torch.no_grad()
def _replaced(view: ContributorView, model: torch.nn.Module, head: Head, texts: Tensor) -> Tensor:
    own, _ = view.train(view.tasks[0])
    words = own[:, 1:][own[:, 1:] != 0]
    rows, index = head
    best, worst = texts, torch.full((len(texts),), torch.inf)
    for _ in range(8):
        replaced = (torch.rand(texts.shape, generator=view.generator) < REPLACED) & (texts != 0)
        replaced[:, 0] = False  # the mark that opens a text
        draw = words[torch.randint(len(words), texts.shape, generator=view.generator)]
        tried = torch.where(replaced, draw, texts)
        logits = F.normalize(view.suite.features(model, tried), dim=-1) @ rows.T
        log_p = logits.log_softmax(-1)[:, index]
        best = torch.where((log_p < worst)[:, None], tried, best)
        worst = torch.minimum(worst, log_p)
    return best
