"""The scratch files of a run: results that other plays start from, and what players may read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from threading import Lock

from torch import Tensor

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.base import Files, Play
from mergearena.bench.records.places import slug


class Store:
    """Files below one folder, each written once and whole, by one thread at a time: suites may compute with models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._making = Lock()

    def result(self, id_: str) -> Path:
        """Where the result of the play of that id is, or will be."""
        return self.folder / f"{id_}.safetensors"

    def keep(self, play: Play, result: Path) -> None:
        """Move a play's result to where others find it."""
        shutil.move(result, self.result(play.id))

    def given(self, play: Play) -> Path | None:
        """The whole result that a play starts from, as its judge sees it."""
        return self.result(play.needs.id) if play.needs else None

    def prepare(self, plays: Iterable[Play]) -> None:
        """Make what does not depend on other plays' results, so that plays find it."""
        for play in plays:
            self._data(play)

    def files(self, play: Play) -> Files:
        """What a play's player may read, made if it is not there."""
        given, files = self.given(play), self._data(play)
        if given is not None and play.needs is not None and play.offers_part:
            given = self._kept(f"offered.{play.needs.id}", partial(play.offered, given))
        return Files(given=given, examples=files.examples, training=files.training)

    def _data(self, play: Play) -> Files:
        """Examples of the player's tier, which each game draws in its own way, and training splits."""
        suite, spelled = suites.get(play.protocol.suite), slug(play.protocol.suite)
        kind = "labelled" if play.labelled else "unlabelled"
        part = f"{kind}.{play.track}.{spelled}.{play.protocol.examples}.{play.seed}"
        drawn = {task: self._kept(f"{part}.{task}", partial(_examples, play.draw, task)) for task in play.reads}
        training = {
            task: self._kept(f"training.{spelled}.{task}", partial(_examples, suite.load, task, "train"))
            for task in play.trains
        }
        return Files(examples=drawn, training=training)

    def _kept(self, name: str, make: Callable[[], StateDict]) -> Path:
        path = self.folder / f"{name}.safetensors"
        with self._making:
            if not path.exists():
                checkpoints.save(make(), path)
        return path


def _examples(load: Callable[..., tuple[Tensor, Tensor]], *what: object) -> StateDict:
    inputs, labels = load(*what)
    return {"inputs": inputs, "labels": labels}
