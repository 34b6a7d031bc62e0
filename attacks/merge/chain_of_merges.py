"""Chain of Merges: RegMean layer by layer, each on what the merged layers before it compute."""

from collections.abc import Mapping

from pydantic import PositiveInt

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.attacks.merge.regmean import gram_matrices, nearest
from mergearena.attacks.merge.scaled import Share
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import average
from mergearena.bench.players.views import MergingView


@attacks.merger("chain-of-merges", paper="arXiv 2508.21421", tier="unlabelled", cost="forward")
def chain_of_merges(
    models: Mapping[str, StateDict], view: MergingView, *, examples: PositiveInt = 64, off_diagonal: Share = 0.95
) -> StateDict:
    """One linear layer after the other, in the order of the forward pass, with statistics of the merged model so far:

        W = argmin sum_t |X_t W^T - X_t W_t^T|^2 = (sum_t W_t G_t) (sum_t G_t)^-1,   G_t = X_t^T X_t

    X_t are the layer's inputs when the *merged* model, whose earlier layers are final, reads ``examples`` unlabelled
    inputs of task t. ``regmean`` takes them from model t, whose inputs the merged layer never meets;
    ``regmean-plusplus`` takes them anew for every block only. Tensors that are no linear layer's weight are averaged
    before. Ours: off-diagonal entries times ``off_diagonal`` as in ``regmean``, and 64 examples, since all tasks run
    once per layer.
    """
    seen = limited(view, examples)
    merged = average(list(models.values()))
    inputs = {task: seen.unlabelled(task) for task in models}
    any_task = next(iter(models))
    for key in gram_matrices(merged, any_task, inputs[any_task][:1], view):
        grams = [gram_matrices(merged, task, inputs[task], view, only=(key,))[key] for task in models]
        merged[key] = nearest([state[key] for state in models.values()], grams, off_diagonal)
    return merged
