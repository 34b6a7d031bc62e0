"""Running a study: Optuna proposes pipelines, the runner plays them, validation says what they recover."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
from filelock import FileLock, Timeout

from mergearena.bench.errors import ArenaError, BadConfig
from mergearena.bench.games.protection import Match, Play, Record, plan, presets
from mergearena.bench.games.protection.pipeline import Pipeline, parse_attack, parse_defense
from mergearena.bench.players.roster import Roster
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.protocol import Protocol
from mergearena.bench.runner import session
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.runner.run import run as play_all
from mergearena.bench.runner.scratch import remove
from mergearena.bench.study.scores import Scale, scale
from mergearena.bench.study.settings import Settings
from mergearena.bench.study.space import IDENTITY, Space
from mergearena.bench.study.trials import Journal, Trial

RECORDS = "records"
"""Folder of a study's records."""

_Chosen = tuple[optuna.Trial, str | BadConfig]
"""A trial and the pipeline that it plays, or why it plays none."""
Listener = Callable[[int, Trial, Trial], None]
"""Told how many trials are done, the last of them, and the strongest."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a study is over; the known attacks that it begins with are played in any case."""

    trials: int
    flops: float = math.inf
    """Operations of the attacks."""
    minutes: float = math.inf
    """Minutes of playing."""

    def left(self, done: Sequence[Trial], begun: int) -> bool:
        """Whether there is any left, once these are done and as many more are begun."""
        seconds, flops = sum(trial.seconds for trial in done), sum(trial.flops for trial in done)
        return len(done) + begun < self.trials and flops < self.flops and seconds < 60 * self.minutes


@dataclass(frozen=True, kw_only=True)
class Search:
    """One study, ready to run."""

    folder: Path
    settings: Settings
    protocol: Protocol
    matches: Sequence[Match]
    space: Space
    known: Sequence[Pipeline]
    """The attacks that it begins with."""
    references: Sequence[Pipeline]
    """The attacks that say, without any defense, where 0 and 100 % are."""
    jobs: int
    limits: Limits
    roster: Roster = field(default_factory=Roster)

    def run(self, budget: Budget, listener: Listener = lambda done, trial, best: None) -> None:
        """Search until the budget is spent; go on where an earlier run of the study was stopped.

        Raises:
            ArenaError: the folder holds another study, another run is at work there, the defense fails, or its
                matches have nothing to steal.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                self.settings.settle(self.folder)
                journal = Journal(self.folder, self.settings.seeds[0])
                for pipeline in self.known:
                    journal.begin_with(self.space.encode(pipeline))
                validation = self._references()
                while batch := self._next(journal, validation, budget):
                    for trial in self._play(journal, batch, validation):
                        done = journal.finished
                        listener(len(done), trial, min(done, key=lambda t: t.order))
                remove(self.folder / RECORDS / session.SCRATCH)
        except Timeout:
            raise ArenaError(f"{self.folder}: another run is at work on this study") from None

    def _references(self) -> Scale:
        """Protect the victims, and play what says where 0 and 100 % are."""
        tier, seeds = self.settings.tier, self.settings.seeds
        releases = [self._release(match.victim, seed) for match in self.matches for seed in seeds]
        played = self._played([*plan(self.protocol, self.matches, seeds, [], self.references), *releases])
        for record in played:
            if record.kind == "release" and record.status != "ok":
                raise ArenaError(f"{record.defense} failed on {record.victim}: {record.reason}")
        found = scale(played, tier, "validation")
        if not found.references:
            names = ", ".join(match.spelling for match in self.matches)
            raise ArenaError(f"there is nothing to steal in tier {tier} on {names}; choose others with --match")
        return found

    def _next(self, journal: Journal, validation: Scale, budget: Budget) -> list[_Chosen]:
        """The trials to play next, as many as keep every slot busy, and what they play."""
        batch: list[_Chosen] = []
        tried = {trial.attack for trial in journal.finished if trial.attack}
        for trial in journal.unfinished():
            self._choose(trial, journal, batch, tried)
        while len(batch) * len(validation.references) < self.jobs or not batch:
            if journal.exhausted or not (journal.waiting or budget.left(journal.finished, len(batch))):
                break
            self._choose(journal.ask(), journal, batch, tried)
        return batch

    def _choose(self, trial: optuna.Trial, journal: Journal, batch: list[_Chosen], tried: set[str]) -> None:
        """Add to a batch what a trial plays, unless that was tried already."""
        try:
            attack: str | BadConfig = self.space.suggest(trial)
        except BadConfig as error:
            attack = error
        if attack in tried:
            journal.drop(trial)
            return
        batch.append((trial, attack))
        tried |= {attack} if isinstance(attack, str) else set()

    def _play(self, journal: Journal, batch: Sequence[_Chosen], on: Scale) -> Iterator[Trial]:
        started = time.monotonic()
        played = self._played(
            [play for _, attack in batch if isinstance(attack, str) for play in self._plays(attack, on)]
        )
        seconds = (time.monotonic() - started) / len(batch)
        for trial, attack in batch:
            here = [r for r in played if r.attack is not None and r.attack == attack]
            failed = (f"{r.status}: {r.reason}" for r in here if r.status != "ok")
            told = Trial(
                number=trial.number,
                attack=attack if isinstance(attack, str) else "",
                known=journal.is_known(trial),
                status=f"infeasible: {attack}" if isinstance(attack, BadConfig) else next(failed, "ok"),
                recovered=on.recovered(here),
                flops=sum(r.cost.flops for r in here),
                seconds=seconds,
            )
            journal.tell(trial, told)
            yield told

    def _plays(self, attack: str, on: Scale) -> Iterator[Play]:
        """What an attack plays, and the releases that it starts from."""
        pipeline = parse_attack(attack)
        for (victim, *donors), seed in on.references:
            release = self._release(victim, seed)
            yield from (release, replace(release, donors=tuple(donors), attack=pipeline))

    def _release(self, victim: str, seed: int) -> Play:
        return Play(protocol=self.protocol, victim=victim, seed=seed, defense=parse_defense(self.settings.defense))

    def _played(self, plays: Sequence[Play]) -> list[Record]:
        """Play, and leave the releases for the next trials."""
        unique = {play.id: play for play in plays}
        root = self.folder / RECORDS
        summary = play_all(
            list(unique.values()), root, jobs=self.jobs, limits=self.limits, roster=self.roster, keep=True
        )
        return [record for record in summary.records if isinstance(record, Record)]


def known_within(tier: Tier, stages: Iterable[str] = ()) -> list[Pipeline]:
    """The known attacks that a tier allows, made of these stages alone if any are named."""
    only = {IDENTITY, *stages}
    known = _within(tier, presets.NAIVE_AND_AUTO)
    return [p for p in known if len(only) == 1 or only.issuperset(stage.name for stage in p.stages)]


def references_within(tier: Tier) -> list[Pipeline]:
    """The baselines and known attacks that a tier allows."""
    return _within(tier, (*presets.BASELINES, *presets.NAIVE_AND_AUTO))


def _within(tier: Tier, attacks: Iterable[str]) -> list[Pipeline]:
    return [pipeline for pipeline in map(parse_attack, attacks) if tier.allows(pipeline.tier)]
