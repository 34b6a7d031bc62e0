"""A study's trials, in Optuna's journal: a file to which every choice and every result is added as it is made."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from mergearena.bench.errors import ArenaError

FILE = "trials.jsonl"
NAME = "study"
REPEATS = 5
"""Pipelines proposed in a row that were tried already, after which one is drawn at random."""
MOST_REPEATS = 50
"""The same, after which there is nothing left to try."""


@dataclass(frozen=True)
class Trial:
    """One finished trial."""

    number: int
    attack: str
    """Its spelling; empty if its options do not go together."""
    known: bool
    """Whether the study began with it."""
    status: str
    """``ok``, or why it has no result on some match."""
    recovered: float
    """Mean over the matches, on validation; 0 without a result."""
    flops: int
    """Operations of the attack, over the matches; of plays that failed they are not known."""
    seconds: float
    """What it took, evaluation included."""

    @property
    def order(self) -> tuple[float, int, int]:
        """The strongest first; of equals the cheapest, then the first."""
        return -self.recovered, self.flops, self.number


class _FolderLocked(JournalFileOpenLock):
    """No lock of its own: whoever writes holds the study's folder."""

    def acquire(self) -> bool:
        """Nothing to wait for."""
        return True

    def release(self) -> None:
        """Nothing to give back."""


class Journal:
    """The trials of the study in one folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Open a journal, or begin one. Its last line, if whoever wrote it was cut short, is dropped.

        A trial's choices depend on the trials before it, its number and the seed alone, so that a study which was
        killed goes on as it would have gone.
        """
        path = folder / FILE
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the command line tells what there is to tell
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), _FolderLocked(str(path))))
        self.study = optuna.create_study(storage=storage, study_name=NAME, load_if_exists=True, direction="maximize")
        self._id = storage.get_study_id_from_name(NAME)
        self._storage = storage
        self._seed = seed

    @property
    def finished(self) -> list[Trial]:
        """Those that are finished, in their order."""
        return [_read(trial) for trial in self._in(TrialState.COMPLETE)]

    def begin_with(self, params: dict[str, Any]) -> None:
        """Have parameters tried before any that are searched, unless they were or are about to be."""
        self.study.enqueue_trial(params, user_attrs={"known": True}, skip_if_exists=True)

    @property
    def waiting(self) -> bool:
        """Whether there are parameters to be tried first."""
        return bool(self._in(TrialState.WAITING))

    def unfinished(self) -> list[optuna.Trial]:
        """The trials that were begun and not finished, as they were."""
        return [self._resumed(trial.number) for trial in self._in(TrialState.RUNNING)]

    @property
    def exhausted(self) -> bool:
        """Whether what is proposed has all been tried."""
        return _repeats(self._all) >= MOST_REPEATS

    def ask(self) -> optuna.Trial:
        """A new trial."""
        self._choose_sampler(len(self._all))
        return self.study.ask()

    def drop(self, trial: optuna.Trial) -> None:
        """Forget a trial whose pipeline was tried already."""
        self.study.tell(trial, state=TrialState.FAIL)

    def is_known(self, trial: optuna.Trial) -> bool:
        """Whether the study began with it."""
        return bool(trial.user_attrs.get("known", False))

    def tell(self, trial: optuna.Trial, told: Trial) -> None:
        """Finish a trial."""
        for name in ("attack", "status", "flops", "seconds"):
            trial.set_user_attr(name, getattr(told, name))
        self.study.tell(trial, told.recovered)

    @property
    def _all(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _in(self, state: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(state,))

    def _choose_sampler(self, number: int) -> None:
        """Have the trial of that number chosen by what is known, or at random after too many repeats."""
        seed = self._seed + number
        self.study.sampler = RandomSampler(seed) if _repeats(self._all[:number]) >= REPEATS else _tpe(seed)

    def _resumed(self, number: int) -> optuna.Trial:
        self._choose_sampler(number)
        return optuna.Trial(self.study, self._storage.get_trial_id_from_study_id_trial_number(self._id, number))


def read(folder: Path) -> tuple[optuna.Study, list[Trial]]:
    """The study in a folder and its finished trials, without writing.

    Raises:
        ArenaError: there is none yet.
    """
    path = folder / FILE
    if not path.is_file():
        raise ArenaError(f"{folder}: no trials there yet")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=NAME, storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))))
    return study, [_read(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]


def _repeats(trials: Sequence[FrozenTrial]) -> int:
    """How many of the last trials were dropped."""
    return sum(1 for _ in takewhile(lambda trial: trial.state is TrialState.FAIL, reversed(trials)))


def _tpe(seed: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # In groups: options exist only where their stage was chosen, and are modelled with those they go with.
        return TPESampler(seed=seed, multivariate=True, group=True)


def _read(trial: FrozenTrial) -> Trial:
    told = trial.user_attrs
    return Trial(
        trial.number,
        told["attack"],
        told.get("known", False),
        told["status"],
        trial.values[0],
        told["flops"],
        told["seconds"],
    )
