"""ACE-Merging: RegMean without inputs, their covariance read off the task vectors."""

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from mergearena import attacks
from mergearena.attacks.merge.regmean import nearest
from mergearena.attacks.merge.spectral import SpectralConfig, SpectralMerge


@attacks.merger("ace")
class ACE(SpectralMerge):
    """Per weight matrix, the least-squares weights of RegMean, with S_t in place of what a layer reads on task t:

        W = (sum_t W_t S_t) (sum_t S_t + C)^-1,   S_t = the covariance of the rows of tau_t   (in x in)

    since a row of tau_t is a sum of the inputs that trained it. Where the traces of the S_t differ by more than
    ``heterogeneity`` (standard deviation over mean), each S_t is divided by its own, lest the longest task vector take
    all. Defaults: heterogeneity 0.3, epsilon 1e-5. Everything that is no matrix is averaged. lambda is 1.

    Ours, where the paper's form could not be established: C = epsilon * tr(sum_t S_t) / in * I in place of its
    collective prior, the measure of heterogeneity, and that directions nobody reads stay averaged, as in ``regmean``.
    Its last step, which refines the leading 30 % of the spectrum, is left out.
    """

    paper = "arXiv 2603.02945"

    class Config(SpectralConfig):
        """How covariances are made comparable and invertible."""

        heterogeneity: NonNegativeFloat = 0.3
        """Above this spread of their traces, covariances are normalised."""
        epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-5
        """The prior's weight."""

    def combine_matrix(self, stack_toi: Tensor) -> Tensor:
        """Covariances, then least squares."""
        covariances = [row_covariance(matrix) for matrix in stack_toi.double()]
        traces = torch.stack([s.trace() for s in covariances])
        if len(traces) > 1 and traces.std(correction=0) > self.config.heterogeneity * traces.mean():
            tiny = torch.finfo(traces.dtype).tiny
            covariances = [s / t.clamp_min(tiny) for s, t in zip(covariances, traces, strict=True)]
        return nearest(list(stack_toi), covariances, off_diagonal=1.0, ridge=self.config.epsilon)


def row_covariance(matrix_oi: Tensor) -> Tensor:
    """The covariance of the rows of o x i: i x i."""
    centred = matrix_oi - matrix_oi.mean(0)
    return centred.mT @ centred / len(matrix_oi)
