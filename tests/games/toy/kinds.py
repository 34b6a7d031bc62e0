"""Its kinds of players."""

from abc import abstractmethod

from mergearena.bench.players.player import Player
from mergearena.bench.players.registry import registry


@registry.kind("paint")
class Painter(Player):
    """Soils a model."""

    kind = "painter"

    @abstractmethod
    def paint(self, state, generator): ...


@registry.kind("erase")
class Eraser(Player):
    """Cleans a painted model."""

    kind = "eraser"

    @abstractmethod
    def erase(self, state, base): ...
