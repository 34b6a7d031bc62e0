"""Shift anchor: take back what was added to free biases and to directions that norms take out."""

from typing import Literal

import torch

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.symmetry.shifts import Shift


@attacks.aligner("shift-anchor", paper="ours", cost="algebra")
def shift_anchor(released: StateDict, view: AttackerView, *, to: Literal["base", "zero"] = "base") -> StateDict:
    """Every shift of the map (biases of keys and values, the mean that LayerNorms take out, sums of embeddings) to
    where the base stands, or, with ``to=zero``, to zero:

        x -> x + t,   t = c(theta0) - c(x),   c the map's reading of the shift

    Each is in closed form and keeps the function. Zero is the same whatever heads, units and channels are called and
    however they are scaled, and so comes before other aligners: added noise would mislead them. The base's own place,
    once they have found who is who.
    """

    def by(shift: Shift, state: StateDict) -> torch.Tensor:
        here = shift.read(state)
        return (shift.read(view.base) if to == "base" else torch.zeros_like(here)) - here

    return view.architecture.shifted(released, by)
