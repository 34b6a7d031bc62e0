"""The scratch files of a run: results that other plays start from, and what players may read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.base import Files, Play


class Store:
    """Files below one folder, each written once and whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def result(self, id_: str) -> Path:
        """Where the result of the play of that id is, or will be."""
        return self.folder / f"{id_}.safetensors"

    def given(self, play: Play) -> Path | None:
        """The whole result that a play starts from, as its judge sees it."""
        return self.result(play.needs.id) if play.needs else None

    def files(self, play: Play) -> Files:
        """What a play's player may read, made if it is not there."""
        suite, given = suites.get(play.protocol.suite), self.given(play)
        whole = f"training.{suite.name}"
        part = f"{'labelled' if play.labelled else 'unlabelled'}.{suite.name}.{play.protocol.examples}.{play.seed}"
        drawn = {task: self._kept(f"{part}.{task}", partial(_examples, play.draw, task)) for task in play.reads}
        training = {
            task: self._kept(f"{whole}.{task}", partial(_examples, suite.load, task, "train")) for task in play.trains
        }
        if given is not None and play.needs is not None and play.offers_part:
            given = self._kept(f"offered.{play.needs.id}", partial(play.offered, given))
        return Files(given=given, examples=drawn, training=training)

    def _kept(self, name: str, make: Callable[[], StateDict]) -> Path:
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            checkpoints.save(make(), path)
        return path


def _examples(load: Callable[..., tuple[Tensor, Tensor]], *what: object) -> StateDict:
    inputs, labels = load(*what)
    return {"inputs": inputs, "labels": labels}
