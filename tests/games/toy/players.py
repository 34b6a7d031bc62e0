"""Its players, as an installed package would register them."""

import torch

from games.toy.kinds import Eraser, Painter
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.registry import registry


class Spray(Painter):
    """Adds noise of a strength to every weight."""

    class Config(AttackConfig):
        strength: float = 0.5

    def paint(self, state, generator):
        return {k: v + self.config.strength * torch.randn(v.shape, generator=generator) for k, v in state.items()}


class Water(Eraser):
    """Leaves everything as it is."""

    def erase(self, state, base):
        return state


class Solvent(Eraser):
    """Goes half of the way back to the base."""

    def erase(self, state, base):
        return {k: (v + base[k]) / 2 for k, v in state.items()}


class Broken(Eraser):
    """Raises."""

    def erase(self, state, base):
        raise ValueError("no water")


with registry.opened():
    registry.register("painter")("spray")(Spray)
    for eraser in (Water, Solvent, Broken):
        registry.register("eraser")(eraser.__name__.lower())(eraser)
