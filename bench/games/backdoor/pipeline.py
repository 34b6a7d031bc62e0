"""The spelling of the backdoor game's players: one contributor alone, or ``merge > repair+...``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import cast

from mergearena.bench.errors import BadPipeline
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.backdoor.players import Backdoor, MergerView, Repair, SafeMerge
from mergearena.bench.players.spelling import Reader
from mergearena.bench.players.stages import Merge, Stage, merged
from mergearena.bench.players.tier import Tier


@dataclass(frozen=True)
class Merger:
    """A parsed safe merger: a merge, then repairs of what it made."""

    merge: Merge | SafeMerge
    repairs: tuple[Repair, ...] = ()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every player in order."""
        return (self.merge, *self.repairs)

    @cached_property
    def spelling(self) -> str:
        """The canonical spelling: merge > repairs."""
        repairs = "+".join(repair.spelling for repair in self.repairs)
        return f"{self.merge.spelling} > {repairs}" if repairs else self.merge.spelling

    @property
    def tier(self) -> Tier:
        """What it reads at most: nothing beyond weights, or unlabelled examples."""
        return max((s.tier for s in self.stages), key=lambda tier: tier.rank)

    def run(self, view: MergerView) -> StateDict:
        """The one merged model."""
        state = merged(self.merge.merge, view.contributions, view)
        return reduce(lambda state, repair: repair.repair(state, view), self.repairs, state)


def parse_backdoor(text: str) -> Backdoor:
    """Read a malicious contributor.

    Raises:
        BadPipeline: it does not parse, or there is more than one.
        UnknownName, BadConfig: it is unknown or misconfigured.
    """
    segments = Reader(text).segments(("backdoor",))
    if [len(segment) for segment in segments] != [1]:
        raise BadPipeline(f"one malicious contributor stands alone: {text}")
    return cast("Backdoor", segments[0][0])


def parse_merger(text: str) -> Merger:
    """Read a safe merger: one merge of any kind, and what repairs it.

    Raises:
        BadPipeline: it does not parse, its order is wrong, or its merge needs labels, which mergers have not.
        UnknownName, BadConfig: a stage is unknown or misconfigured.
    """
    (first, *rest) = Reader(text).segments(("merge", "sanitize", "repair"))
    if len(first) != 1 or first[0].kind == "repair" or any(s.kind != "repair" for segment in rest for s in segment):
        raise BadPipeline(f"{text}: a merger is 'one merge > repair+...'; repairs may be left out")
    if isinstance(first[0], Merge) and first[0].tier is Tier.LABELLED:
        raise BadPipeline(f"{text}: {first[0].spelling} needs labels, and mergers have unlabelled examples only")
    return Merger(cast("Merge | SafeMerge", first[0]), tuple(cast("Repair", s) for segment in rest for s in segment))
