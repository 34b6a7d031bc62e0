"""RegMean++: RegMean block by block, each on what the merged blocks before it compute."""

from collections.abc import Mapping

from pydantic import PositiveInt

from mergearena import attacks
from mergearena.attacks.examples import limited
from mergearena.attacks.merge.depth import depths
from mergearena.attacks.merge.regmean import gram_matrices, nearest
from mergearena.attacks.merge.scaled import Share
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import average
from mergearena.bench.players.views import MergingView


@attacks.merger("regmean-plusplus", paper="arXiv 2508.03121", tier="unlabelled", cost="forward")
def regmean_plusplus(
    models: Mapping[str, StateDict], view: MergingView, *, examples: PositiveInt = 256, off_diagonal: Share = 0.95
) -> StateDict:
    """RegMean, block after block, with inputs that the merged model will really see:

        W = (sum_t W_t G_t) (sum_t G_t)^-1,   G_t = X_t^T X_t,   X_t of block l from f_t^l o f_m^(l-1) o .. o f_m^1

    that is, task t's inputs go through the blocks that are merged already and then through model t's own block. Inside
    a block, layers are merged as ``regmean`` does: least squares with off-diagonal entries times ``off_diagonal``, all
    other tensors averaged. A model of one block gives ``regmean``. As many runs of the models as there are blocks.
    """
    seen, depth = limited(view, examples), depths(view.architecture, view.base)
    merged = average(list(models.values()))
    linear: dict[int, list[str]] = {}
    first, task = next(iter(models.values())), next(iter(models))
    for key in gram_matrices(first, task, seen.unlabelled(task)[:1], view):
        linear.setdefault(depth[key], []).append(key)
    for block in sorted(linear):
        grams = []
        for task, state in models.items():
            mixed = {key: merged[key] if depth[key] < block else value for key, value in state.items()}
            grams.append(gram_matrices(mixed, task, seen.unlabelled(task), view, only=linear[block]))
        for key in linear[block]:
            merged[key] = nearest([state[key] for state in models.values()], [g[key] for g in grams], off_diagonal)
    return merged
