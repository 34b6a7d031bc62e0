"""WUDI-Merging: task vectors stand in for the inputs that a merge must not disturb."""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, ValidationInfo, field_validator
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.spectral import SpectralConfig, SpectralMerge


@attacks.merger("wudi")
class WUDI(SpectralMerge):
    """Per weight matrix, the rows of tau_t span about what the layer reads on task t, so that interference is least at

        tau_m = argmin_t sum_i |(t - tau_i) tau_i^T|^2 / |tau_i|^2     (Frobenius norms; tau: out x in)

    ``form=iterated`` (the paper's) goes from sum_i tau_i towards it by ``steps`` steps of Adam; few steps regularise.
    ``form=closed`` goes all the way, which leaves 0 where no task vector reads:

        tau_m = (sum_i tau_i G_i) (sum_i G_i)^+,   G_i = tau_i^T tau_i / |tau_i|^2

    Defaults: 300 steps of 1e-5, no coefficient. A step of Adam has one length whatever the task vectors': the iterated
    form is not homogeneous in them. Everything that is no matrix is averaged. In float64.
    """

    paper = "arXiv 2503.08099"

    class Config(SpectralConfig):
        """How far to go."""

        form: Literal["iterated", "closed"] = "iterated"
        """By Adam, or in one step."""
        steps: NonNegativeInt = 300
        """Steps of Adam."""
        lr: Annotated[PositiveFloat, Field(le=1)] = 1e-5
        """Learning rate of Adam."""

        @field_validator("steps", "lr")
        @classmethod
        def _is_used(cls, value: float, info: ValidationInfo) -> float:
            if info.data.get("form") == "closed" and value != cls.model_fields[str(info.field_name)].default:
                raise ValueError("the closed form takes no steps; add form=iterated or leave it out")
            return value

    def combine_matrix(self, stack_toi: Tensor) -> Tensor:
        """Down from the sum, or straight to the minimum."""
        exact = stack_toi.double()
        grams_tii = weighted_grams(exact)
        total_ii, pull_oi = grams_tii.sum(0), (exact @ grams_tii).sum(0)
        if self.config.form == "closed":
            return (pull_oi @ torch.linalg.pinv(total_ii, hermitian=True)).to(stack_toi.dtype)
        merged = exact.sum(0)
        adam = torch.optim.Adam([merged], lr=self.config.lr)
        for _ in range(self.config.steps):
            merged.grad = 2 * (merged @ total_ii - pull_oi)
            adam.step()
        return merged.to(stack_toi.dtype)


def weighted_grams(stack_toi: Tensor) -> Tensor:
    """G_t = tau_t^T tau_t / |tau_t|^2 (T x i x i): of trace 1, or 0 where a task vector is."""
    squares = stack_toi.square().sum((1, 2), keepdim=True)
    return stack_toi.mT @ stack_toi / squares.clamp_min(torch.finfo(stack_toi.dtype).tiny)
