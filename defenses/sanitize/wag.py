"""WAG: weight averaging dilutes what a single model was taught."""

from collections.abc import Mapping

from pydantic import NonNegativeInt

from mergearena import defenses
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import MergerView
from mergearena.bench.merging.kernels import average


@defenses.safe_merge("wag", paper="arXiv 2402.19334", tier="data-free")
def wag(models: Mapping[str, StateDict], view: MergerView, *, copies: NonNegativeInt = 1) -> StateDict:
    """theta_m = (sum_t theta_t + c theta0) / (T + c) = theta0 + 1/(T + c) sum_t tau_t,   c = ``copies``

    With c = 0 the plain average; with any c task arithmetic of coefficient 1/(T + c).

    Threat model: backdoors differ from model to model and skills do not, so that averaging leaves the skills and
    divides each backdoor by T + c. That holds for the paper's models, which share one task; where every
    model has a task of its own, a skill is divided like a backdoor, and a backdoor that survives scaling survives this.
    Needs no data. Deviation: no clean models of the same tasks exist here, and copies of the base take their place.
    """
    return average([*models.values(), *[view.base] * copies])
