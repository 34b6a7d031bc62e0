"""Attention shrink: bring back attention that was trained farther from the base than the task needs."""

from pydantic import NonNegativeFloat

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.merging.kernels import norm, task_vector


@attacks.aligner("attention-shrink", paper="ours, against arXiv 2606.30360")
def attention_shrink(released: StateDict, view: AttackerView, *, power: NonNegativeFloat = 0.5) -> StateDict:
    """Scale the task vector of attention towards the weight that it has in the donors' task vectors:

        tau_att <- c tau_att,   c = min(1, (r_d / r_p)^power),   r = |tau_att| / |tau_rest|

    r_p is the released model's ratio, r_d that of the donors' root mean squares. A defense that trains attention away
    from the base stretches it along its task vector, since that is where the gradients lead. The skill tolerates a
    shorter one, and the donors that are merged with it suffer less. ``power`` 0 leaves everything as it is, 1 gives the
    donors' ratio, 1/2 goes half the way on a logarithmic scale. Play it behind ``gauge-anchor``: in another gauge
    tau_att is no task vector. *Not* function-preserving, unless nothing is to be shrunk (c = 1).
    """
    keys = {key for group in view.architecture.attentions for key in group.keys}
    ours = task_vector(released, view.base)
    donors = [task_vector(donor, view.base) for donor in view.donors.values()]
    attention, rest = ([norm(part(tau, keys, inside)) for tau in (ours, *donors)] for inside in (True, False))
    theirs_attention, theirs_rest = (sum(n * n for n in norms[1:]) ** 0.5 for norms in (attention, rest))
    # Whoever has no rest has no ratio: nothing says that its attention is too long.
    if attention[0] * theirs_rest <= theirs_attention * rest[0] or not rest[0]:
        return released
    factor = (theirs_attention * rest[0] / (theirs_rest * attention[0])) ** power
    shrunk = {key: view.base[key] + factor * ours[key] for key in keys}
    return {**released, **{key: value.to(released[key].dtype) for key, value in shrunk.items()}}


def part(tau: StateDict, keys: set[str], inside: bool) -> StateDict:
    """The tensors of a task vector whose key is among ``keys``, or is not."""
    return {key: value for key, value in tau.items() if (key in keys) == inside}
