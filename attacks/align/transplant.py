"""Transplant: the base's hidden units in the released model's MLPs, made to compute what those MLPs computed."""

from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from mergearena import attacks
from mergearena.bench.errors import UnsupportedArchitecture
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import Align, AttackerView
from mergearena.bench.players.options import BatchSize, Searched
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import CostClass
from mergearena.bench.players.tier import Tier
from mergearena.bench.symmetry.balance import balanced
from mergearena.bench.symmetry.channels import MLPGroup


class TransplantConfig(AttackConfig):
    """What the fit is made on, and how firm it is."""

    probes: Annotated[NonNegativeInt, Searched(64, 1024)] = 0
    """Random inputs to fit on, which need no data at all; 0: the tier's unlabelled examples of the victim."""
    ridge: Annotated[float, Field(gt=0)] = 1e-2
    """Weight of staying near the base."""
    batch_size: BatchSize = 32
    """Inputs per forward pass."""


@attacks.aligner("transplant")
class Transplant(Align):
    """Per MLP f, the base's layers up to its hidden units h0 and the output weights that best compute f from them:

        W = argmin_W sum_x |W h0(x) - f(x)|^2 + ridge * m * |W - W0|^2,   m the mean of diag(sum_x h0 h0^T)
          = W0 + (sum_x (f(x) - W0 h0(x)) h0(x)^T) (sum_x h0 h0^T + ridge * m * I)^-1

    x is what enters f in the released model, on the tier's unlabelled examples of the victim or on random ``probes``,
    at every position, padded ones too; h0 carries a 1 for the bias if there is one. Whatever hid the hidden units,
    mixing, splitting or training them anew, goes with them, and W stays near the base's W0: the function is kept as far
    as the base's units express it. So is a trap, which needs the very weights that were trained: they are others now.
    Gated MLPs count too. ``block-matching`` finds MLPs out of order no more once they have the base's units.
    """

    paper = "ours"
    cost_class = CostClass.FORWARD
    Config = TransplantConfig

    @property
    def tier(self) -> Tier:
        """Data-free on random inputs."""
        return Tier.DATA_FREE if self.config.probes else Tier.UNLABELLED

    def align(self, released: StateDict, view: AttackerView) -> StateDict:
        """The model with the base's hidden units."""
        config: TransplantConfig = self.config
        released = balanced(released, view.base, view.architecture)
        random = config.probes > 0
        examples = view.suite.probes(config.probes, view.generator) if random else view.unlabelled(view.victim)
        fits = [_Fit(group, view.base) for group in view.architecture.mlps]
        moved = {**released, **{key: view.base[key] for fit in fits for key in fit.writers}}
        theirs, ours = view.model(released), view.model(moved)
        for fit in fits:
            fit.watch(theirs, ours)
        with torch.inference_mode():
            for inputs in examples.split(config.batch_size):
                view.outputs(theirs, view.victim, inputs)
                view.outputs(ours, view.victim, inputs)
        for fit in fits:
            moved |= fit.solved(config.ridge)
        return moved


class _Fit:
    """One MLP's least squares: sums over positions x, float64, of what its last layer, the reader, sees and gives."""

    def __init__(self, group: MLPGroup, base: StateDict) -> None:
        """Take the MLP and the base.

        Raises:
            UnsupportedArchitecture: no layer reads the hidden units as its inputs, or more than one does.
        """
        readers = [axis.key for axis in group.axes if axis.dim == 1]
        if len(readers) != 1:
            raise UnsupportedArchitecture(
                f"{group.name}: {len(readers)} layers read these hidden units by columns, and a transplant fits one; "
                "use weight-matching, which runs nothing"
            )
        self.reader = readers[0].rpartition(".")[0]
        self.writers = [axis.key for axis in group.axes if axis.dim == 0]
        self.keys = readers + [key for key in base if key.rpartition(".")[0] == self.reader and key not in readers]
        self.base = [base[key] for key in self.keys]
        self.base_oi = torch.cat([value.cpu().double().reshape(len(value), -1) for value in self.base], dim=1)
        self.left_oi = torch.zeros_like(self.base_oi)
        self.gram_ii = self.base_oi.new_zeros(self.base_oi.shape[1], self.base_oi.shape[1])

    def watch(self, released: nn.Module, hybrid: nn.Module) -> None:
        """Count what the reader gives in one model and sees in the other, run in turn on each batch."""
        given: list[Tensor] = []

        def record(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
            given.append(output)

        def replace(_: nn.Module, arguments: tuple[Any, ...], __: Tensor) -> Tensor:
            output = given.pop()
            self._add(*(rows.flatten(0, -2).cpu().double() for rows in (arguments[0], output)))
            return output  # so that later layers see what they see in the released model

        released.get_submodule(self.reader).register_forward_hook(record)
        hybrid.get_submodule(self.reader).register_forward_hook(replace)

    def _add(self, hidden_ti: Tensor, output_to: Tensor) -> None:
        one = hidden_ti.new_ones(len(hidden_ti), self.base_oi.shape[1] - hidden_ti.shape[1])
        hidden_ti = torch.cat([hidden_ti, one], dim=1)
        self.gram_ii += hidden_ti.T @ hidden_ti
        self.left_oi += (output_to - hidden_ti @ self.base_oi.T).T @ hidden_ti

    def solved(self, ridge: float) -> StateDict:
        """The reader's tensors, as new weights of the base's dtypes."""
        mean = self.gram_ii.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
        shrunk = self.gram_ii + ridge * mean * torch.eye(len(self.gram_ii), dtype=torch.float64)
        fitted_oi = self.base_oi + torch.linalg.solve(shrunk, self.left_oi, left=False)
        parts = fitted_oi.split([value[0].numel() for value in self.base], dim=1)
        pairs = zip(self.keys, self.base, parts, strict=True)
        return {key: part.reshape(value.shape).to(value) for key, value, part in pairs}
