"""To be trained back into a victim's function: what the network must imitate, and what a budget buys."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView
from mergearena.bench.learning.activations import inputs_of
from mergearena.bench.learning.training import Examples, Objective
from mergearena.bench.suites.classification import classification

TEMPERATURE = 2.0
FEATURES = 10.0
"""Weight of the features' distance, and of the hints'."""


def imitation(victim: StateDict, view: DefenderView, hints: Sequence[int] = ()) -> Objective:
    """CE(f(x), y) + KL_2(f_victim(x) | f(x)) + 10 (1 - cos(h(x), h_victim(x))) + 10/l sum_l (1 - cos(z_l, z_l,victim))

    h: the encoder's features; KL at temperature 2 (arXiv 1503.02531, its factor 4 included). The last term, hints
    (arXiv 1412.6550), is of the attention layers l in ``hints``: z_l is what enters one, at every position. Pictures
    are shifted by up to a fourteenth of their side first, around the edges, so that a few thousand of them last for
    ten passes.
    """
    teacher, suite = view.model(victim), classification(view.suite)
    layers = [view.architecture.attentions[layer].keys[0] for layer in hints]

    def objective(model: nn.Module, batch: Examples) -> Tensor:
        inputs, labels = batch[view.task]
        inputs = shifted(inputs, view.generator)
        with torch.no_grad(), inputs_of(teacher, layers) as expected:
            taught = suite.features(teacher, inputs)
        with inputs_of(model, layers) as seen:
            ours = suite.features(model, inputs)
        logits, answers = (suite.classify(features, view.task) for features in (ours, taught))
        distance = (1 - F.cosine_similarity(ours, taught)).mean()
        for layer in layers:
            distance = distance + (1 - F.cosine_similarity(seen[layer], expected[layer], dim=-1)).mean() / len(layers)
        own = suite.criterion(logits, labels) + suite.divergence(logits, answers, TEMPERATURE)
        return own + FEATURES * distance

    return objective


def shifted(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """A batch of pictures (B x C x H x W) moved together by a random step; anything else as it is."""
    if inputs.ndim != 4 or not inputs.is_floating_point():
        return inputs
    reach = inputs.shape[-1] // 14
    move = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    return inputs.roll(move, (2, 3))


def split_budget(share: float, passes: float, steps: int, view: DefenderView) -> tuple[int, int]:
    """Steps and batch size that spend a share of one fine-tuning's example passes.

    Args:
        share: of one fine-tuning of the victim from the base.
        passes: forward and backward together, per example and step; a forward alone is a third.
        steps: for every example of a batch. Batches and steps grow alike with the budget: at 7, 28,800 examples are
            450 steps of 64.
        view: whose suite says how many passes a fine-tuning takes.
    """
    examples = share * view.suite.fine_tuning_examples / passes
    batch_size = max(1, round((examples / steps) ** 0.5))
    return max(1, int(examples / batch_size)), batch_size
