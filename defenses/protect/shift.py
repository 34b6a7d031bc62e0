"""Shift: add to biases and along directions that the function does not see."""

import torch
from pydantic import PositiveFloat
from torch import Tensor

from mergearena import defenses
from mergearena.bench.errors import ArenaError
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView, Defense
from mergearena.bench.players.player import DefenseConfig
from mergearena.bench.symmetry.shifts import Shift as Free


@defenses.register("shift")
class Shift(Defense):
    """A random t for every shift of the map, normal, ``size`` times as large as what it is added to:

        b_k -> b_k + t                          softmax ignores what all keys share
        b_v -> b_v + t,  b_o -> b_o - W_o t     attention's weights sum to one
        W   -> W + t (1/w)^T,  b -> b - t sum(c/w)   behind a LayerNorm w x + c, whose x has mean zero
        W   -> W + 1 t^T,  b -> b + t 1         into a stream that LayerNorms alone read
        e   -> e + t,  e' -> e' - t             embeddings that are added

    Claims: a merge mixes the added with other models' weights and norms, where it no longer cancels, and aligners
    that compare weights see noise; every output is kept. Against a free-rider who merges the released weights as they
    are, or undoes permutations and gauges only. Broken by ``shift-anchor``, which reads t off the weights.

    A model without any, such as a decoder with RMSNorm and no biases, is an ArenaError.
    """

    paper = "ours"
    preserves_function = True

    class Config(DefenseConfig):
        """How much is added."""

        size: PositiveFloat = 4.5
        """In root mean squares of what is added to. Far beyond the default, float32 shows in the outputs."""

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """The shifted model.

        Raises:
            ArenaError: nothing can be added to this model.
        """
        architecture = view.architecture
        if not architecture.shifts:
            raise ArenaError(
                f"shift: this {architecture.family} model has no LayerNorm and no free bias; use params instead"
            )

        def by(shift: Free, state: StateDict) -> Tensor:
            unit = shift.unit(state).cpu()
            return self.config.size * unit * torch.randn(unit.shape, generator=view.generator, dtype=torch.float64)

        return architecture.shifted(victim, by)
