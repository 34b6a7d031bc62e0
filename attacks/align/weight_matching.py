"""Weight matching: undo permutations."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt

from mergearena import attacks
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.players import Align, AttackerView
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.stages import CostClass
from mergearena.bench.symmetry.assignment import assign, similarity
from mergearena.bench.symmetry.balance import balanced


@attacks.aligner("weight-matching")
class WeightMatching(Align):
    """Per MLP, the permutation P of hidden units that brings the released model nearest to a reference:

        P = argmax_P  <W0_fc, P W_fc> + <b0, P b> + <W0_proj, W_proj P^T>

    A linear assignment on the units' similarities. A transformer's MLPs share no hidden axis, so one pass is exact;
    with ``residual=true`` the residual stream is permuted too, shares tensors with every MLP, and coordinate
    descent solves one permutation at a time, the others held, until none changes.
    """

    paper = "Git Re-Basin, arXiv 2209.04836, eq. 2 and alg. 1"
    cost_class = CostClass.ALGEBRA

    class Config(AttackConfig):
        """What is compared, and with what."""

        similarity: Literal["raw", "cosine"] = "raw"
        """Inner products, or cosines, which no rescaling of units can fool."""
        reference: Literal["base", "donor"] = "base"
        """The public base, or the first donor, for an attacker who has no base."""
        residual: bool = False
        """Whether the residual stream is matched too, where the map knows it."""
        passes: PositiveInt = 20
        """Largest number of rounds of coordinate descent."""

    def align(self, released: StateDict, view: AttackerView) -> StateDict:
        """The released model, permuted."""
        reference = view.base if self.config.reference == "base" else next(iter(view.donors.values()))
        residual = view.architecture.residual if self.config.residual else None
        groups = [*view.architecture.mlps, *([residual] if residual is not None else [])]
        moved = dict(balanced(released, reference, view.architecture))
        gain = None  # one n x n buffer for all groups of a width: fresh memory costs more than the products
        for _ in range(1 if residual is None else self.config.passes):
            changed = False
            for group in groups:
                gain = similarity(group, reference, moved, cosine=self.config.similarity == "cosine", out=gain)
                order = assign(gain).order
                if not torch.equal(order, torch.arange(len(order))):
                    group.permute(moved, order)
                    changed = True
            if not changed:
                break
        return moved
