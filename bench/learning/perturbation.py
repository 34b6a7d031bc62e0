"""Perturbations that defenses search triggers with: one shift of pictures, or of token embeddings, within a ball.

A trigger need not be known to be searched for: a shift delta, the same for all inputs (universal) or one per input,
that changes a model's answers is what a backdoor looks like from outside. Token ids cannot be shifted, so there delta
is added to the output of the first module that turns them into numbers, the same at every token.

    pert = Perturbation(view, model, inputs, radius=0.3)                 # delta = 0
    ascent = torch.optim.Adam([pert.delta], lr=pert.limit / 10, maximize=True)
    loss = F.cross_entropy(pert.logits(model, task, x), y)
    ascent.zero_grad(); loss.backward(); ascent.step(); pert.project()

or, in one call, ``pert.ascend(lambda: loss_of(pert), steps)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mergearena.bench.errors import ArenaError
from mergearena.bench.players.views import View
from mergearena.bench.suites.classification import classification

Norm = Literal["l1", "l2", "linf"]
"""Of all entries of one delta together: sum of magnitudes, Euclidean length, largest magnitude."""


class Perturbation:
    """A delta in the ball |delta| <= limit, and a model's answers to inputs that it shifts."""

    delta: Tensor
    """A leaf that requires gradients. Pictures: 3 x H x W, or B x 3 x H x W; token ids: 1 x D, or B x 1 x D."""
    limit: float
    """Radius of the ball, in the units of pixels or of embeddings."""

    def __init__(
        self, view: View, model: nn.Module, inputs: Tensor, radius: float, norm: Norm = "l2", each: bool = False
    ) -> None:
        """Start at delta = 0.

        Args:
            view: runs the model.
            model: any model of the suite; it is run once.
            inputs: examples (B x ...) whose signal (pixels, or embeddings of tokens) sets range and scale.
            radius: of the ball, as a share of the signal's mean norm (linf: of its root mean square).
            norm: of the ball.
            each: one delta per input of the batch rather than one for all.

        Raises:
            ArenaError: the radius is negative, or the suite's tasks have no classes.
        """
        if not radius >= 0:
            raise ArenaError(f"a perturbation's radius is a share of the signal, at least 0, not {radius}")
        self.suite, self.norm = classification(view.suite), norm
        self.tokens = not inputs.is_floating_point()
        signal = embedded(view, model, inputs) if self.tokens else inputs
        self.range = None if self.tokens else (float(signal.min()), float(signal.max()))
        rows = signal[inputs[:, : signal.shape[1]] != 0] if self.tokens else signal.flatten(1)
        size = rows.square().mean().sqrt() if norm == "linf" else lengths(rows, norm).mean()
        self.limit = radius * size.item()
        shape = (1, signal.shape[-1]) if self.tokens else tuple(signal.shape[1:])
        self.delta = torch.zeros((len(inputs), *shape) if each else shape, requires_grad=True)
        self.each = each

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Features B x D of shifted inputs, differentiable in delta; shifted pixels stay in the pixels' range."""
        if self.range is not None:
            return self.suite.features(model, (inputs + self.delta).clamp(*self.range))
        with shifted(model, self.delta):
            return self.suite.features(model, inputs)

    def logits(self, model: nn.Module, task: str, inputs: Tensor) -> Tensor:
        """Class logits B x C of shifted inputs under the task's frozen head."""
        return self.suite.classify(self.features(model, inputs), task)

    @torch.no_grad()
    def project(self) -> None:
        """Bring delta back into the ball, in place: linf clips every entry, l1 and l2 shrink the whole."""
        if self.norm == "linf":
            self.delta.clamp_(-self.limit, self.limit)
            return
        size = lengths(self._rows(self.delta), self.norm)
        # A hair inside, lest rounding leave it outside.
        shrink = torch.where(size > self.limit, self.limit * (1 - 1e-6) / size, 1.0)
        self._rows(self.delta).mul_(shrink[:, None])

    @torch.no_grad()
    def randomise(self, generator: torch.Generator) -> None:
        """Make delta a random point on the ball's edge (linf: a random corner), in place."""
        drawn = torch.randn(self.delta.shape, generator=generator)
        if self.norm == "linf":
            self.delta.copy_(self.limit * drawn.sign())
        else:
            size = lengths(self._rows(drawn), self.norm)[:, None]
            self._rows(self.delta).copy_(self.limit * (1 - 1e-6) * self._rows(drawn) / size)

    def ascend(self, loss: Callable[[], Tensor], steps: int, pace: float = 0.25) -> Tensor:
        """Projected gradient ascent in delta: steps of ``pace`` x limit along the gradient (linf: along its sign).

        Args:
            loss: a scalar that depends on delta; only delta gets a gradient.
            steps: how many.
            pace: length of a step as a share of the radius.

        Returns:
            The loss before the last step, detached; 0 if there is none.
        """
        value = torch.zeros(())
        for _ in range(steps):
            value = loss()
            (slope,) = torch.autograd.grad(value, [self.delta])
            with torch.no_grad():
                if self.norm == "linf":
                    way = slope.sign()
                else:
                    size = lengths(self._rows(slope), self.norm).clamp_min(torch.finfo(slope.dtype).tiny)
                    way = (self._rows(slope) / size[:, None]).view_as(slope)
                self.delta.add_(way, alpha=pace * self.limit)
            self.project()
        return value.detach()

    def _rows(self, value: Tensor) -> Tensor:
        """One row per delta: a view."""
        return value.view(len(value), -1) if self.each else value.view(1, -1)


def lengths(rows: Tensor, norm: Norm) -> Tensor:
    """The norm of every row of N x f."""
    return torch.linalg.vector_norm(rows, {"l1": 1, "l2": 2, "linf": float("inf")}[norm], dim=1)


@torch.no_grad()
def embedded(view: View, model: nn.Module, inputs: Tensor) -> Tensor:
    """What the first module that returns numbers makes of token ids: B x L x D."""
    seen: list[Tensor] = []
    with _first_output(model, seen.append):
        classification(view.suite).features(model, inputs)
    if not seen:
        raise ArenaError("no module of the model returns floating-point numbers, so there is nothing to perturb")
    return seen[0]


@contextmanager
def shifted(model: nn.Module, delta: Tensor) -> Iterator[None]:
    """Within the block, each run of the model adds ``delta`` to the output of the first module that returns numbers.

    One run per block: what counts as first is decided once. Works where the parameters are functional, too.
    """
    with _first_output(model, lambda output: output + delta):
        yield


@contextmanager
def _first_output(model: nn.Module, use: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Hand the first floating-point output of a module without submodules to ``use``, which may replace it."""
    done = False

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        nonlocal done
        if done or not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        done = True
        return use(output)

    with ExitStack() as hooks:
        for module in model.modules():
            if next(module.children(), None) is None:
                hooks.callback(module.register_forward_hook(hook).remove)
        yield
