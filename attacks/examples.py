"""How many of the tier's examples a method reads."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from mergearena.bench.players.views import MergingView

Examples = Mapping[str, tuple[Tensor, Tensor]]
"""Task -> inputs (k x ...) and labels (k)."""


def limited(view: MergingView, most: int | None) -> MergingView:
    """The same view with the first ``most`` examples of every task (all if None).

    The tier's examples come in random order, so the first are a fair sample. Only what is left is counted as read.
    """
    return view if most is None else replace(view, examples=_First(view.examples, most))


class _First(Mapping[str, tuple[Tensor, Tensor]]):
    """The first examples of each task, cut when asked for: an attack must not load what it does not read."""

    def __init__(self, examples: Examples, most: int) -> None:
        self._examples = examples
        self._most = most

    def __getitem__(self, task: str) -> tuple[Tensor, Tensor]:
        inputs, labels = self._examples[task]
        return inputs[: self._most], labels[: self._most]

    def __iter__(self) -> Iterator[str]:
        return iter(self._examples)

    def __len__(self) -> int:
        return len(self._examples)
