"""The pipelines that a study searches: what Optuna may choose, read from the registered stages and their configs.

A pipeline begins with the aligners of a known attack or with none, goes on with up to :data:`MORE` others, merges, and
may recover. A stage's options are either the published ones or searched; they are the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import optuna

from mergearena.bench.errors import BadConfig
from mergearena.bench.games.protection.pipeline import Pipeline, parse_attack
from mergearena.bench.players.registry import registry
from mergearena.bench.players.stages import Stage
from mergearena.bench.players.tier import Tier
from mergearena.bench.study.options import Options, options_of

MORE = 3
"""Aligners beyond those of the known attack that a pipeline begins with."""
NOTHING = "nothing"
"""No aligners to begin with, or no recovery."""
IDENTITY = "identity"
"""The aligner that does nothing, which is spelled where there is no other."""
START, COUNT, MERGE, RECOVERY = "begins with", "more aligners", "merge", "recovery"

_Options = Mapping[str, Options]


@dataclass(frozen=True)
class Space:
    """Every pipeline that a study may try."""

    starts: tuple[str, ...]
    """Aligners of known attacks, as spelled; the first is :data:`NOTHING`."""
    aligners: _Options
    merges: _Options
    recoveries: _Options

    def suggest(self, trial: optuna.trial.BaseTrial) -> str:
        """The spelling of one pipeline.

        Raises:
            BadConfig: options that do not go together.
        """
        start = trial.suggest_categorical(START, self.starts)
        count = trial.suggest_int(COUNT, 0, MORE) if self.aligners else 0
        chain = [] if start == NOTHING else [start]
        for place in range(count):
            name = trial.suggest_categorical(_aligner(place), list(self.aligners))
            chain.append(self.aligners[name].suggest(trial).spelling)
        segments = ["+".join(chain)] if chain else []
        segments.append(self.merges[trial.suggest_categorical(MERGE, list(self.merges))].suggest(trial).spelling)
        if self.recoveries:
            recovery = trial.suggest_categorical(RECOVERY, [NOTHING, *self.recoveries])
            if recovery != NOTHING:
                segments.append(self.recoveries[recovery].suggest(trial).spelling)
        return parse_attack(" > ".join(segments)).spelling

    def encode(self, known: Pipeline) -> dict[str, Any]:
        """The parameters with which :meth:`suggest` gives a known attack."""
        assert known.merge is not None
        chosen = {START: _start(known), MERGE: known.merge.name, **self.merges[known.merge.name].encode(known.merge)}
        if self.aligners:
            chosen[COUNT] = 0
        if self.recoveries:
            chosen[RECOVERY] = NOTHING
        for stage in known.recoveries:
            chosen |= {RECOVERY: stage.name, **self.recoveries[stage.name].encode(stage)}
        return chosen

    @property
    def summary(self) -> str:
        """How much there is to choose from."""
        counts = (len(self.aligners), "aligners"), (len(self.merges), "merges"), (len(self.recoveries), "recoveries")
        return ", ".join(f"{count} {what}" for count, what in counts if count)

    @property
    def signature(self) -> dict[str, str]:
        """What there is to choose, as text: two spaces with one signature are the same."""
        kinds = {**self.aligners, **self.merges, **self.recoveries}
        return {START: str(self.starts)} | {name: repr(options.searched) for name, options in kinds.items()}


def space_of(tier: Tier, known: Iterable[Pipeline], only: Collection[str] = ()) -> Space:
    """The space of every registered stage that plays in a tier, or of those named.

    Raises:
        UnknownName: a named stage is none.
        BadConfig: a named stage needs a higher tier, or none of those named merges.
    """
    for name in only:
        if options_of(cast("type[Stage]", registry.find(name, "align", "merge", "recover")), tier) is None:
            raise BadConfig(f"{name} cannot be played in tier {tier}; allow a higher one with --tier")

    def kind(which: str) -> dict[str, Options]:
        stages = [cast("type[Stage]", player) for player in registry.players(which) if not only or player.name in only]
        return {s.name: options for s in stages if s.name != IDENTITY and (options := options_of(s, tier))}

    aligners, merges = kind("align"), kind("merge")
    if not merges:
        raise BadConfig(f"no stage merges among: {', '.join(only)}; name one, as in --stages task-arithmetic")
    starts = dict.fromkeys([NOTHING, *(_start(pipeline) for pipeline in known)])
    return Space(tuple(starts), aligners, merges, kind("recover"))


def _start(known: Pipeline) -> str:
    return "+".join(a.spelling for a in known.aligners if a.name != IDENTITY) or NOTHING


def _aligner(place: int) -> str:
    return f"aligner {place + 1}"
