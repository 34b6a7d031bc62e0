"""The one spelling of defenses and attacks, its parser, and what a parsed spelling does.

- a defense is a chain, applied left to right: ``params(scaling=diagonal)+params(dropout=weights)``;
- an attack is aligners, one merge, recoveries: ``weight-matching+gauge-anchor > ties(density=0.2) > finetune``;
- a whole attack stands alone: ``finetune-base(steps=50)``;
- a malicious contributor stands alone, and a safe merger is a merge and repairs: ``adamerging > anp``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce

from mergearena.bench.errors import BadPipeline
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.games.protection.alignment import aligned
from mergearena.bench.games.protection.players import Align, Attack, AttackerView, DefenderView, Defense, Recover
from mergearena.bench.players.registry import registry
from mergearena.bench.players.spelling import Reader
from mergearena.bench.players.stages import Merge, Stage, merged
from mergearena.bench.players.tier import Tier


@dataclass(frozen=True)
class Chain:
    """Defenses applied one after the other; a single defense is a chain of one."""

    defenses: tuple[Defense, ...]

    @cached_property
    def spelling(self) -> str:
        """The canonical spelling."""
        return "+".join(d.spelling for d in self.defenses)

    @property
    def preserves_function(self) -> bool:
        """Whether every link claims to."""
        return all(d.claims_function for d in self.defenses)

    def protect(self, victim: StateDict, view: DefenderView) -> StateDict:
        """Apply every link."""
        return reduce(lambda state, defense: defense.protect(state, view), self.defenses, victim)


AlignedHook = Callable[[StateDict], None]


@dataclass(frozen=True)
class Pipeline:
    """A parsed attack: aligners, one merge, recoveries; or one whole attack."""

    aligners: tuple[Align, ...] = ()
    merge: Merge | None = None
    recoveries: tuple[Recover, ...] = ()
    whole: Attack | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every player in order."""
        if self.whole is not None:
            return (self.whole,)
        return (*self.aligners, *((self.merge,) if self.merge else ()), *self.recoveries)

    @cached_property
    def spelling(self) -> str:
        """The canonical spelling: aligners > merge > recoveries."""
        if self.whole is not None:
            return self.whole.spelling
        parts = [self.aligners, (self.merge,) if self.merge else (), self.recoveries]
        return " > ".join("+".join(s.spelling for s in part) for part in parts if part)

    @property
    def tier(self) -> Tier:
        """The highest tier that any stage needs."""
        return max((s.tier for s in self.stages), key=lambda tier: tier.rank)

    @property
    def uses_victim(self) -> bool:
        """False for baselines, which need not be played against every defense."""
        return self.whole is None or self.whole.uses_victim

    @property
    def extraction(self) -> bool:
        """Whether any stage learns from the released model's answers."""
        return any(s.extraction for s in self.stages)

    def run(self, view: AttackerView, on_aligned: AlignedHook | None = None) -> StateDict:
        """Attack: the one merged model. ``on_aligned`` is shown the victim as the merge will see it."""
        if self.whole is not None:
            return self.whole.attack(view)
        assert self.merge is not None
        state = reduce(lambda state, aligner: aligned(aligner, state, view), self.aligners, view.released)
        if on_aligned is not None:
            on_aligned(state)
        state = merged(self.merge.merge, {view.victim: state, **view.donors}, view)
        return reduce(lambda state, stage: stage.recover(state, view), self.recoveries, state)


def parse_defense(text: str) -> Chain:
    """Read a defense or a chain of them.

    Raises:
        BadPipeline: it does not parse; the message points at the place.
        UnknownName, BadConfig: a link is unknown or misconfigured.
    """
    segments = Reader(text).segments(("defense",))
    if len(segments) != 1:
        raise BadPipeline(f"a defense has one segment; join its links with '+', not '>': {text}")
    return Chain(tuple(segments[0]))


def parse_attack(text: str) -> Pipeline:
    """Read an attack pipeline; ``task-arithmetic`` alone means ``identity > task-arithmetic``.

    Raises:
        BadPipeline: it does not parse, or its stages are in the wrong order; the message points at the place.
        UnknownName, BadConfig: a stage is unknown or misconfigured.
    """
    segments = Reader(text).segments(("align", "merge", "recover", "attack"))
    kinds = [{stage.kind for stage in segment} for segment in segments]
    if kinds == [{"attack"}] and len(segments[0]) == 1:
        return Pipeline(whole=segments[0][0])
    if kinds[0] == {"merge"}:
        segments, kinds = [[registry.find("identity", "align")()], *segments], [{"align"}, *kinds]
    expected = [{"align"}, {"merge"}, {"recover"}][: max(2, len(kinds))]
    if kinds != expected or len(segments[1]) != 1:
        shown = " > ".join("+".join(f"{s.name} ({s.kind})" for s in segment) for segment in segments)
        raise BadPipeline(
            f"{shown}: an attack is 'aligner+... > one merge > recovery+...' (aligners and recoveries may be "
            "left out), or one whole attack alone"
        )
    recoveries = tuple(segments[2]) if len(segments) == 3 else ()
    return Pipeline(aligners=tuple(segments[0]), merge=segments[1][0], recoveries=recoveries)
