"""No alignment: the naive free-rider."""

import attacks
from bench.checkpoints import StateDict
from bench.game import AttackerView


@attacks.aligner("identity")
def identity(released: StateDict, view: AttackerView) -> StateDict:
    """Hand the released model to the merge as it is: theta_p."""
    return released
