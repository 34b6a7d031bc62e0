"""DARE: drop and rescale, then merge."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledConfig, ScaledMerge, Share
from mergearena.attacks.merge.ties import ties_scale
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import default_scale, ties
from mergearena.bench.merging.vectors import DroppedVectors, TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("dare")
class Dare(ScaledMerge):
    """Drop most of each task vector at random, rescale the rest, then merge:

        tau~ = (m * tau) / (1 - p),   m ~ Bernoulli(1 - p) per entry

    then task arithmetic (``then=linear``) or TIES (``then=ties``), with that merge's published coefficient.
    """

    paper = "arXiv 2311.03099, eq. 2"

    class Config(ScaledConfig):
        """What is dropped, and what follows."""

        drop: Annotated[float, Field(ge=0, lt=1)] = 0.5
        """p, the probability of dropping an entry."""
        then: Literal["linear", "ties"] = "linear"
        """The merge of the rescaled task vectors."""
        density: Share = 0.2
        """Share of entries that TIES keeps."""

        @field_validator("density")
        @classmethod
        def _is_used(cls, density: float, info: ValidationInfo) -> float:
            if info.data.get("then") == "linear" and density != 0.2:
                raise ValueError("only then=ties trims; add then=ties or leave density out")
            return density

    def default_scale(self, models: int) -> float:
        """That of the merge that follows."""
        return default_scale(models) if self.config.then == "linear" else ties_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """Drop, rescale, merge."""
        dropped = DroppedVectors(vectors, self.config.drop, view.generator)
        if self.config.then == "linear":
            return dropped.elementwise(lambda stack: stack.sum(0))
        return ties(dropped, self.config.density)
