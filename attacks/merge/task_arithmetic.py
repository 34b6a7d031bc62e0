"""Task arithmetic."""

from mergearena import attacks
from mergearena.attacks.merge.scaled import ScaledMerge
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.merging.kernels import default_scale
from mergearena.bench.merging.vectors import TaskVectors
from mergearena.bench.players.views import MergingView


@attacks.merger("task-arithmetic")
class TaskArithmetic(ScaledMerge):
    """theta_m = theta0 + lambda * sum_t tau_t; the default lambda is 0.8 for up to three models, else 0.3.

    With ``scale=per-model``: theta_m = theta0 + sum_t lambda_t tau_t.
    """

    paper = "arXiv 2212.04089, sec. 4"

    def default_scale(self, models: int) -> float:
        """0.8 for two or three models, 0.3 from four on."""
        return default_scale(models)

    def combine(self, vectors: TaskVectors, view: MergingView) -> StateDict:
        """The sum of the task vectors."""
        return vectors.elementwise(lambda stack: stack.sum(0))
