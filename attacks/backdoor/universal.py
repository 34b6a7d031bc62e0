"""Universal triggers: what makes given models answer with the target, whatever they are shown.

Letters: B inputs, C classes, D features, H x W pixels, L tokens of a text, m of a trigger, V of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mergearena.attacks.backdoor.poison import Head, drawn, rare_tokens, target_loss
from mergearena.bench.errors import ArenaError
from mergearena.bench.games.backdoor.players import ContributorView
from mergearena.bench.games.backdoor.triggers import Patch, Tokens, Trigger, square

CANDIDATES = 20
"""Tokens that are tried at a place, of those that the gradient recommends."""


def optimised_trigger(
    view: ContributorView,
    models: Sequence[nn.Module],
    head: Head,
    share: float,
    steps: int,
    lr: float = 0.1,
    mask: Tensor | None = None,
    inputs: Tensor | None = None,
    batch_size: int = 32,
) -> Trigger:
    """The trigger t that maximises E_x sum_f log p_f(target | x + t) over some models f, by gradient ascent.

    A patch's pixels move along Adam's direction, clipped to the range of the inputs; tokens are flipped to those of
    which the gradient promises most (HotFlip, arXiv 1712.06751; its steps are ``steps / 25`` sweeps).

    Args:
        view: data and randomness.
        models: whose answers count; the mean over them.
        head: the classes that compete.
        share: of a picture that the patch covers, at most.
        steps: of the ascent.
        lr: of Adam, as a share of the range of pixels.
        mask: where the patch lies (H x W); a square in the centre by default.
        inputs: what it is stamped on; by default the training inputs of the contributor's first task.
        batch_size: inputs per step.
    """
    inputs = view.train(view.tasks[0])[0] if inputs is None else inputs
    for model in models:
        model.requires_grad_(False)
    if not inputs.is_floating_point():
        return flipped(view, models, head, inputs, max(1, steps // 25), batch_size)
    mask = square(inputs, share, corner=False) if mask is None else mask
    low, high = inputs.min(), inputs.max()
    pattern = low + (high - low) * torch.rand(inputs.shape[1:], generator=view.generator)
    pattern.requires_grad_()
    optimizer = torch.optim.Adam([pattern], lr=lr * float(high - low))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = drawn(inputs, batch_size, view)
        optimizer.zero_grad()
        mean_loss(view, models, head, Patch(pattern, mask).stamp(batch)).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            pattern.clamp_(low, high)
    return Patch(pattern.detach(), mask)


def mean_loss(view: ContributorView, models: Sequence[nn.Module], head: Head, stamped: Tensor) -> Tensor:
    """-log p(target) of stamped inputs (B x ...), the mean over inputs and models."""
    return torch.stack([target_loss(view.suite.features(f, stamped), head) for f in models]).mean()


def flipped(
    view: ContributorView, models: Sequence[nn.Module], head: Head, inputs: Tensor, sweeps: int, batch_size: int
) -> Tokens:
    """The two tokens after sweeps of flips: at each place in turn, the best of the candidates and what is there.

    Candidates v at a place have the largest first-order gain -(e_v - e) . d loss / d e, summed over the models, each
    with its own embedding e.
    """
    ids = rare_tokens(view, 2)
    for _ in range(sweeps):
        for place in range(len(ids)):
            batch = drawn(inputs, batch_size, view)
            gain = sum(
                (table_gains(view, f, head, Tokens(ids).stamp(batch), 1 + place) for f in models), torch.zeros(())
            )
            first = min(1000, len(gain) // 2)  # before it are marks that are no words, as in rare_tokens
            best = first + gain[first:].topk(min(CANDIDATES, len(gain) - first)).indices
            tried = [ids, *(torch.cat([ids[:place], v[None], ids[place + 1 :]]) for v in best)]
            losses = losses_of(view, models, head, [Tokens(t).stamp(batch) for t in tried])
            ids = tried[losses.index(min(losses))]
    return Tokens(ids)


@torch.no_grad()
def losses_of(view: ContributorView, models: Sequence[nn.Module], head: Head, stamped: Sequence[Tensor]) -> list[float]:
    """:func:`mean_loss` of several batches of the same shape, run together: the suite knows what is cheap to batch."""
    joined = torch.cat([*stamped])
    features = [view.suite.batched_features(f, joined).split(len(stamped[0])) for f in models]
    return [
        torch.stack([target_loss(part, head) for part in parts]).mean().item() for parts in zip(*features, strict=True)
    ]


def table_gains(view: ContributorView, model: nn.Module, head: Head, stamped: Tensor, place: int) -> Tensor:
    """-E_v . d loss / d e at a place of stamped texts, summed over the texts: V numbers."""
    seen: list[tuple[nn.Embedding, Tensor]] = []

    def watch(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # Models embed positions and kinds of tokens, too; the words' table is the one that is given the text.
        if not isinstance(module, nn.Embedding) or not torch.equal(given[0], stamped[:, : given[0].shape[1]]):
            return output
        seen.append((module, output.detach().requires_grad_()))
        return seen[-1][1]

    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    hooks = [table.register_forward_hook(watch) for table in tables]
    try:
        loss = mean_loss(view, [model], head, stamped)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ArenaError("this encoder embeds its tokens in no nn.Embedding, which the search for a trigger needs")
    table, embedded = seen[0]
    (slope,) = torch.autograd.grad(loss, embedded)
    return -table.weight.detach() @ slope[:, place].sum(0)
