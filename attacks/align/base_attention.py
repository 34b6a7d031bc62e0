"""Base attention: give up the victim's attention instead of aligning it."""

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.symmetry.channels import MLPGroup
from mergearena.bench.symmetry.heads import AttentionGroup


@attacks.aligner("base-attention", paper="ours")
def base_attention(released: StateDict, view: AttackerView, *, mlps: bool = False) -> StateDict:
    """The base's attention under the released model's everything else:

        theta = (theta0 on attention, theta_p elsewhere)

    Whatever a defense did to attention is gone, and with it what fine-tuning taught it: *not* function-preserving.
    Skill remains where fine-tuning changed the MLPs, norms and embeddings. A tensor belongs to attention if a gauge
    touches it or if the module that holds such a tensor holds it too, as the output projection holds its bias.
    ``mlps``: give up the MLPs too, which leaves norms and embeddings; for a victim whose blocks stand where the base's
    do not.
    """
    groups: list[AttentionGroup | MLPGroup] = [*view.architecture.attentions]
    if mlps:
        groups += view.architecture.mlps
    owners = {_owner(key) for group in groups for key in group.keys}
    return {key: view.base[key] if _owner(key) in owners else value for key, value in released.items()}


def _owner(key: str) -> str:
    """The path of the module that holds a tensor."""
    return key.rpartition(".")[0]
