"""MergeBarrier: flip the strongest directions that a head's queries and keys share."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mergearena import defenses
from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.heads import AttentionGroup, Gauge
from mergearena.defenses.protect.gauges import random_orthogonal


@defenses.register("mergebarrier")
class MergeBarrier(Defense):
    """The attention part of MergeBarrier: per head one orthogonal P for queries and keys, which P^-T = P keeps,

        Q -> P Q,  K -> P K,   P = W (I - 2 U U^T),   U the top eigenvectors of Q Q^T + K K^T

    (biases appended). The flip I - 2 U U^T moves Q and K farther than any other orthogonal map that moves as few
    directions: |P Q - Q|^2 + |P K - K|^2 = tr((2 I - P - P^T)(Q Q^T + K K^T)) is then 4 times the sum of the top
    eigenvalues. W is a secret rotation of the other directions, random and orthogonal to U. Without it the flip is
    its own inverse: the released matrix has the same eigenvectors, so running the defense again gives the victim.

    Claims: no linear path of low loss is left between the protected model and its relatives, with negligible loss of
    its own score. Against a free-rider who merges the released weights as they are, knowing the code but not W.
    Broken by ``rotation-matching`` (P is what it solves for) and by ``gauge-anchor``. Weak already without them: Q and
    K move together, so a merge with coefficient c keeps (1-2c)^2 of the logits along U, 0.36 at c = 0.8, where
    ``mergelock`` leaves noise.

    Deviations: this is our reading of the paper's description, and the share of flipped directions is not known to us;
    V, O and MLPs stay as they are. The paper also replaces the activation of the MLPs by a polynomial, which changes
    the topology: a released model has the victim's tensors here, so that part does not play, and neither do the
    paper's figures apply. Under rotary embeddings the eigenvectors come in pairs of channels, and the flip takes whole
    pairs. Layers with QK-norm allow no P and stay as they are.
    """

    paper = "arXiv 2511.10712"
    preserves_function = True

    class Config(DefenseConfig):
        """How much of a head is flipped."""

        fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
        """Share of a head's directions that are flipped, the strongest first; at least one."""
        turn: bool = True
        """Whether W turns the other directions at random; if not, W = I and there is no secret."""

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The model with flipped queries and keys.

        Raises:
            ArenaError: no attention layer allows an orthogonal map between Q and K.
        """
        groups = [group for group in view.architecture.attentions if group.qk != "fixed"]
        if not groups:
            raise ArenaError(
                f"mergebarrier: every attention layer of this {view.architecture.family} model normalises its queries "
                "and keys, so nothing may be flipped; use mergelock, which also acts on V and O"
            )
        gauges = {}
        for group in groups:
            p_gdd = torch.stack(
                [self._flip(e, group.nearest_admissible, view.generator) for e in energy(group, victim)]
            )
            gauges[group.name] = Gauge(p_gdd, Gauge.identity(group).b, torch.arange(group.kv_heads))
        return view.architecture.apply(victim, Element({}, gauges))

    def _flip(self, energy_dd: Tensor, admissible: Callable[[Tensor], Tensor], generator: torch.Generator) -> Tensor:
        """P of one head, d x d. All spectral projectors of an admissible matrix are admissible, hence so is P."""
        eye = torch.eye(len(energy_dd), dtype=torch.float64)
        top = strongest(admissible(energy_dd), max(1, round(self.config.fraction * len(eye))))
        flip = eye - 2 * top
        if self.config.turn:
            flip = random_orthogonal(len(eye), generator, admissible, keeping=top) @ flip
        return admissible(flip)


def energy(group: AttentionGroup, state: StateDict) -> Tensor:
    """Q Q^T + K K^T per key/value head, g x d x d, float64; summed over the query heads that share K."""
    q, k = (side.read(state).cpu().double().unflatten(0, (group.kv_heads, -1)) for side in (group.q, group.k))
    return (q @ q.mT).sum(1) + (k @ k.mT).sum(1)


def strongest(energy_dd: Tensor, count: int) -> Tensor:
    """U U^T for the ``count`` largest eigenvalues, and those that equal the last: a repeated one has no one vector."""
    value_d, vector_dd = torch.linalg.eigh(energy_dd)
    u = vector_dd[:, value_d >= (1 - 1e-9) * value_d[-count]]
    return u @ u.T
