"""Gated scale: rescale what an MLP's linear branch, or a norm, trades with the layer that reads it."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from mergearena import defenses
from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.architecture import Element
from mergearena.bench.symmetry.channels import ScaleGroup
from mergearena.defenses.protect.gauges import log_uniform


@defenses.register("gated-scale")
class GatedScale(Defense):
    """A random positive scale s per hidden unit of a gated MLP, down(act(gate x) * up x), which is linear in ``up``:

        W_up -> diag(s) W_up,  b_up -> s * b_up,   W_down -> W_down diag(1/s),   s log-uniform in [1/spread, spread]

    and likewise per unit of a ReLU MLP, since relu(s x) = s relu(x). With ``norms``, also per channel of every norm
    and the layers that read it, w -> s * w, b -> s * b, W_read -> W_read diag(1/s), which most families allow.

    Claims: a merge adds units of different sizes, the larger factor swamping the other model's, while every output is
    kept. Against a free-rider who merges the released weights as they are or matches permutations only, knowing the
    code but not the draw. Broken by ``scale-normalization``, which reads s off the sizes of rows and columns (after
    ``weight-matching`` if a chain permutes units too).

    A model that has none of the chosen scales is an ArenaError.
    """

    paper = "ours"
    preserves_function = True

    class Config(DefenseConfig):
        """What is rescaled, and how far."""

        spread: Annotated[float, Field(gt=1, le=1e4)] = 20.0
        """Scales are log-uniform in [1/spread, spread]."""
        norms: bool = False
        """Whether norms are rescaled too (alone, in a model without gated or ReLU MLPs)."""

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The rescaled model.

        Raises:
            ArenaError: the model has no such scales.
        """
        architecture = view.architecture
        norms = architecture.norms if self.config.norms else ()
        if not architecture.scales and not norms:
            remedy = "set norms=true" if architecture.norms else "use params, which rescales attention heads"
            raise ArenaError(
                f"gated-scale: this {architecture.family} model has no gated or ReLU MLP, so its units have no free "
                f"scale{' and neither have its norms' if self.config.norms else ''}; {remedy}"
            )

        def draw(group: ScaleGroup) -> Tensor:
            return log_uniform(1 / self.config.spread, self.config.spread, group.width, view.generator)

        return architecture.apply(
            victim,
            Element(
                scales={group.name: draw(group) for group in architecture.scales},
                norms={group.name: draw(group) for group in norms},
            ),
        )
