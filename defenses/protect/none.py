"""No defense."""

import defenses
from bench.checkpoints import StateDict
from bench.game import DefenderView


@defenses.register("none", preserves_function=True, deterministic=True)
def none(victim: StateDict, view: DefenderView) -> StateDict:
    """Release the victim as it is: the row that every other is read against. Claims nothing."""
    return victim
