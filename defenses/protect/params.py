"""PaRaMS: permute MLPs away from the base, rescale attention heads at random."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.merging.kernels import drop_and_rescale
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.architecture import Architecture, Element
from mergearena.bench.symmetry.assignment import assign, similarity
from mergearena.defenses.protect.gauges import Scaling, random_gauges


@defenses.register("params")
class PaRaMS(Defense):
    """Parameter rearrangement and random multi-head scaling (Wei et al., ICCV 2025).

    Per MLP, the permutation of hidden units that *maximises* the distance to the base,

        P = argmax_P |theta0_mlp - P theta_mlp|^2 = argmin_P <W0_fc, P W_fc> + <b0, P b> + <W0_proj, W_proj P^T>,

    a linear assignment. Per attention head, random invertible A and B: Q -> A Q, K -> A^-T K, V -> B V, O -> O B^-1.
    ``dropout`` prunes the MLPs before that, so that the released weights are farther from the base's.

    Claims: merging destroys the victim's skill while its own score is kept exactly. Broken by matching the hidden
    units to the public base (``weight-matching``) and solving for the gauge (``scale-normalization`` for diagonal
    scaling, ``gauge-anchor`` for all three). Deviations: matrices are applied in float64 and rounded once; a random A
    is drawn again while its condition number exceeds 1e4, beyond which float32 no longer preserves the function;
    under rotary embeddings (or QK-norm) A is projected on the maps that commute with them (or is the identity).
    """

    paper = "arXiv 2503.07661"

    class Config(DefenseConfig):
        """The published modes and defaults."""

        scaling: Scaling = "diagonal"
        """Random matrices: diagonal, entries uniform in [0.05, 20]; symmetric, U diag(s) U^T with s log-uniform in
        [0.05, 20]; nonsymmetric, (N(0, 1) + 1e-3 I) diag(s) with s log-uniform in [0.1, 15]."""
        dropout: Literal["none", "task-vector", "weights"] = "none"
        """Dropout pruning of the MLPs: of entries of the task vector, or of the weights; the rest is rescaled."""
        rate: Annotated[float, Field(ge=0, lt=1)] = 0.2
        """Share of entries that dropout prunes."""

    @property
    def claims_function(self) -> bool:
        """Rearrangement and scaling keep the function; dropout does not."""
        return self.config.dropout == "none" or self.config.rate == 0

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The rearranged, rescaled model."""
        architecture, pruned = view.architecture, self._prune(victim, view)
        return architecture.apply(
            pruned,
            Element(
                farthest_permutations(architecture, view.base, pruned),
                random_gauges(self.config.scaling, architecture, view.generator),
            ),
        )

    def _prune(self, victim: StateDict, view: DefenderView) -> StateDict:
        """Dropout on the MLPs' weights or on their task vector."""
        if self.claims_function:
            return victim
        keys = [key for group in view.architecture.mlps for key in group.keys]
        kept = {key: view.base[key] if self.config.dropout == "task-vector" else 0 for key in keys}
        dropped = drop_and_rescale({k: victim[k] - kept[k] for k in keys}, self.config.rate, view.generator)
        return {**victim, **{key: kept[key] + dropped[key] for key in keys}}


def farthest_permutations(architecture: Architecture, base: StateDict, victim: StateDict) -> dict[str, Tensor]:
    """Per MLP group, the order of the victim's hidden units with the least similarity to the base's."""
    return {group.name: assign(-similarity(group, base, victim)).order for group in architecture.mlps}
