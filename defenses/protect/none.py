"""No defense."""

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import DefenderView


@defenses.register("none", preserves_function=True, deterministic=True)
def none(victim: StateDict, view: DefenderView) -> StateDict:
    """Release the victim as it is: the row that every other is read against. Claims nothing."""
    return victim
