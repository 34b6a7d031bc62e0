"""Activation matching: undo permutations of hidden units by what the units answer to examples."""

from typing import Literal

import torch
from torch import Tensor, nn

from mergearena import attacks
from mergearena.bench.errors import UnsupportedArchitecture
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import AttackerView
from mergearena.bench.learning.activations import inputs_of
from mergearena.bench.players.options import BatchSize
from mergearena.bench.symmetry.assignment import assign
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.channels import MLPGroup


@attacks.aligner(
    "activation-matching", paper="Git Re-Basin, arXiv 2209.04836, sec. 3.1", tier="unlabelled", cost="forward"
)
def activation_matching(
    released: StateDict,
    view: AttackerView,
    *,
    similarity: Literal["inner", "correlation"] = "inner",
    batch_size: BatchSize = 32,
) -> StateDict:
    """Per MLP, the permutation P of hidden units whose activations come nearest to the base's:

        P = argmin_P |Z0 - P Z|^2 = argmax_P <P, Z0 Z^T>,   Z (n x examples and tokens) enters the second linear layer

    over the tier's unlabelled examples of every task, by linear assignment. ``similarity=correlation`` centres and
    scales every unit first, which no rescaling of units can fool. What a defense does to attention heads without
    changing the function does not show in Z. Tokens that are padding count like the others.
    """
    released = balanced(released, view.base, view.architecture)
    tallies = {group.name: _Tally(group.width) for group in view.architecture.mlps}
    models = [view.model(view.base), view.model(released)]
    with torch.inference_mode():
        for task in view.tasks:
            for inputs in view.unlabelled(task).split(batch_size):
                base, ours = (_activations(model, view, task, inputs) for model in models)
                for name, tally in tallies.items():
                    tally.add(base[name], ours[name])
    moved = dict(released)
    for group in view.architecture.mlps:
        tally = tallies[group.name]
        gain_nn = tally.cross if similarity == "inner" else tally.correlation()
        group.permute(moved, assign(gain_nn.clone()).order)
    return moved


class _Tally:
    """Running sums over tokens t of two models' activations z0 and z, float64."""

    count: int = 0
    cross: Tensor
    """sum_t z0 z^T, n x n."""
    sums: Tensor
    """sum_t of z0 and of z, 2 x n."""
    squares: Tensor
    """sum_t of z0^2 and of z^2, 2 x n."""

    def __init__(self, width: int) -> None:
        self.cross = torch.zeros(width, width, dtype=torch.float64)
        self.sums, self.squares = torch.zeros(2, 2, width, dtype=torch.float64)

    def add(self, base_tn: Tensor, ours_tn: Tensor) -> None:
        """Count one batch."""
        both = torch.stack([base_tn, ours_tn])
        self.count += both.shape[1]
        self.cross += base_tn.T @ ours_tn
        self.sums += both.sum(1)
        self.squares += both.square().sum(1)

    def correlation(self) -> Tensor:
        """Pearson's, n x n; 0 for a unit that never changes."""
        mean, square = self.sums / self.count, self.squares / self.count
        variance = square - mean.square()
        # Below the rounding of its own square a variance is noise.
        deviation = variance.where(variance > 1e-6 * square, torch.inf).sqrt()
        return (self.cross / self.count - torch.outer(*mean)) / torch.outer(*deviation)


def _activations(model: nn.Module, view: AttackerView, task: str, inputs: Tensor) -> dict[str, Tensor]:
    """Per MLP group, what enters its second linear layer, tokens x n."""
    readers = {group.name: _reader(group) for group in view.architecture.mlps}
    with inputs_of(model, readers.values()) as seen:
        view.outputs(model, task, inputs)
    return {name: seen[reader].flatten(0, -2) for name, reader in readers.items()}


def _reader(group: MLPGroup) -> str:
    """The parameter that reads the hidden units by columns.

    Raises:
        UnsupportedArchitecture: none does.
    """
    for axis in group.axes:
        if axis.dim == 1:
            return axis.key
    raise UnsupportedArchitecture(
        f"{group.name}: no layer reads these hidden units by columns; use weight-matching, which runs nothing"
    )
