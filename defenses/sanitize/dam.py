"""DAM: masks over task vectors that keep what serves the tasks and what no perturbation of the inputs can abuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView, SafeMerge
from mergearena.bench.learning.coefficients import Blend, Data, batch, entropies, entropy, learned
from mergearena.bench.learning.masks import expected, product, sampled, zero_logits
from mergearena.bench.learning.training import At
from mergearena.bench.merging.kernels import default_scale
from mergearena.bench.players.stages import CostClass
from mergearena.bench.players.tier import Tier
from mergearena.defenses.sanitize.universal import Adversary, UniversalConfig

Mask = Literal["task-shared", "backdoor-detection"]
Variant = Literal[
    "dual", "dual-consistent", "single", "single-consistent", "task-shared", "task-shared-consistent", "none"
]
MASKS: dict[Variant, tuple[Mask, ...]] = {
    "dual": ("task-shared", "backdoor-detection"),
    "dual-consistent": ("task-shared", "backdoor-detection"),
    "single": ("backdoor-detection",),
    "single-consistent": ("backdoor-detection",),
    "task-shared": ("task-shared",),
    "task-shared-consistent": ("task-shared",),
    "none": (),
}
"""The masks of each variant, which take turns."""


class DAMConfig(UniversalConfig):
    """Which masks are learned, on what, and for how long; and where perturbations are looked for."""

    variant: Variant = "dual-consistent"
    """``dual``: both masks, as in the paper; ``single``: the Backdoor-Detection mask alone, as in its release;
    ``task-shared``: the other alone; ``none``: plain AdaMerging. ``-consistent``: masks learn from the cross-entropy
    to clean predictions, not from the entropy."""
    alpha: NonNegativeFloat = 1.0
    """Weight of the loss on perturbed inputs; published: 0.1."""
    outer: NonNegativeInt = 40
    """Outer steps, each of which moves one mask."""
    mask_lr: PositiveFloat = 0.1
    """Adam's learning rate for the masks' logits; published: 1e-3."""
    init: float | None = None
    """Where merge coefficients start, in every outer step too; null means task arithmetic's default. Published: 0.3."""
    steps: NonNegativeInt = 50
    """Steps of AdaMerging, with the finished mask at last."""
    lr: PositiveFloat = 1e-2
    """Adam's learning rate for merge coefficients; published: 1e-3."""
    batch_size: PositiveInt = 16
    """Examples per task and step."""


@defenses.safe_merge("dam")
class DAM(SafeMerge):
    """Multiply the uploads' task vectors by masks m, learned so that no perturbation of the inputs changes answers:

        theta = theta0 + sum_i w_i tau_i * m,   m = m_shared * m_detection,   each a concrete mask of mean 1 per tensor

    An outer step moves one mask, in turn. m is sampled; w takes a step of Adam from ``init`` towards a lower entropy of
    clean predictions; a universal perturbation d_t per task one up CE(f(x + d_t), argmax f(x)); the mask's logits one
    down L(f(x)), to which m_detection adds alpha L(f(x + d_t)). Then layer-wise AdaMerging with the expectation of m.

    L is the entropy (paper, release), which a confident target class lowers too, or, in the ``consistent`` variants,
    the cross-entropy to what AdaMerging without masks predicts of x. Threat model: some uploads obey a trigger that the
    merger does not know, but that a small perturbation can stand in for; it has a few unlabelled examples per task.

    Published: entropies, alpha 0.1, rates 1e-3 (masks, w) and 1e-4 (d_t, no bound), test inputs. Deviations: unlabelled
    examples that are not test; fewer and larger steps; bounded perturbations. ``dam(variant=dual, perturbation=ball,
    alpha=0.1)`` is nearest to the paper. In a ball, d_t finds what sways any model; a patch of few pixels finds the
    target class.
    """

    paper = "arXiv 2410.13910"
    tier = Tier.UNLABELLED
    cost_class = CostClass.TRAINING
    Config = DAMConfig

    def merge(self, models: Mapping[str, StateDict], view: MergerView) -> StateDict:
        """The merged model. ``models``: task -> upload."""
        config: DAMConfig = self.config
        data: Data = {task: (view.unlabelled(task),) for task in view.tasks}
        blend = Blend(list(models.values()), view.base)
        start = blend.coefficients(default_scale(len(models)) if config.init is None else config.init)

        def adamerged(mask: StateDict | None) -> StateDict:
            budget = config.steps, config.lr, config.batch_size
            return blend.state(learned(blend, start, data, entropies(view), view, *budget, mask), mask)

        if config.variant.endswith("consistent"):
            plain = adamerged(None)
            # Cloned out of inference mode, so that the loss may keep them for its backward pass.
            data = {t: (x, view.suite.predict(plain, t, x).argmax(-1).clone()) for t, (x, *_) in data.items()}
        found = [expected(logits) for logits in self.logits(blend, start, data, view).values()]
        return adamerged(product(found) if found else None)

    def logits(self, blend: Blend, start: Tensor, data: Data, view: MergerView) -> dict[Mask, StateDict]:
        """The masks' logits after the outer steps.

        Args:
            blend: of the uploads.
            start: coefficients w (T x L) that every outer step starts from.
            data: task -> inputs, and the predictions to keep if the variant is consistent.
            view: module, heads and randomness.
        """
        config: DAMConfig = self.config
        masks: dict[Mask, StateDict] = {name: zero_logits(view.base) for name in MASKS[config.variant]}
        optimizers = {name: torch.optim.Adam(a.values(), lr=config.mask_lr) for name, a in masks.items()}
        model = view.model(view.base).requires_grad_(False)
        adversary = Adversary(view, model, data, config)
        for step in range(config.outer if masks else 0):
            name = [*masks][step % len(masks)]
            examples = batch(data, config.batch_size, view.generator)
            inputs = {task: x for task, (x, *_) in examples.items()}
            mask = product([sampled(a, view.generator) for a in masks.values()])
            weights = blend.weights(one_step(blend, start, mask, model, examples, view, config.lr), mask)
            merged = At(model, weights)
            clean = {task: view.logits(merged, task, x) for task, x in inputs.items()}
            loss = summed(clean, examples)
            if name == "backdoor-detection":
                answers = {task: logits.argmax(-1) for task, logits in clean.items()}
                adversary.ascend(At(model, detached(weights)), inputs, answers)
                loss = loss + config.alpha * summed(adversary.logits(merged, inputs), examples)
            optimizers[name].zero_grad()
            loss.backward(inputs=[*masks[name].values()])
            optimizers[name].step()
            view.progress(step + 1, config.outer)
        return masks


def one_step(
    blend: Blend, start: Tensor, mask: StateDict, model: nn.Module, examples: Data, view: MergerView, lr: float
) -> Tensor:
    """Coefficients one step of Adam from ``start`` towards a lower entropy of clean predictions, the mask as it is."""
    lambda_tl = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([lambda_tl], lr=lr)
    entropies(view)(At(model, blend.weights(lambda_tl, detached(mask))), examples).backward()
    optimizer.step()
    return lambda_tl.detach()


def summed(logits: Mapping[str, Tensor], examples: Data) -> Tensor:
    """The sum over tasks of the mean entropy, or of the cross-entropy to predictions where examples bring some."""
    losses = [
        F.cross_entropy(logits[task], parts[1]) if len(parts) > 1 else entropy(logits[task])
        for task, parts in examples.items()
    ]
    return torch.stack(losses).sum()


def detached(state: StateDict) -> StateDict:
    """The same values, without gradients."""
    return {key: value.detach() for key, value in state.items()}
