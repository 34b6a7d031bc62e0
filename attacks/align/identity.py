"""No alignment: the naive free-rider."""

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView


@attacks.aligner("identity")
def identity(released: StateDict, view: AttackerView) -> StateDict:
    """Hand the released model to the merge as it is: theta_p."""
    return released
