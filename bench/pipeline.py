"""The one spelling of defenses and attacks, its parser, and what a parsed spelling does.

- a defense is a chain, applied left to right: ``params(scaling=diagonal)+params(dropout=weights)``;
- an attack is aligners, one merge, recoveries: ``weight-matching+gauge-anchor > ties(density=0.2) > finetune``;
- a whole attack stands alone: ``finetune-base(steps=50)``;
- a malicious contributor stands alone, and a safe merger is a merge and repairs: ``adamerging > anp``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, cast

from bench.checkpoints import StateDict
from bench.errors import ArenaError, BadPipeline
from bench.game import Align, Attack, AttackerView, DefenderView, Defense, Kind, Merge, Player, Recover, Stage, Tier
from bench.registry import find
from bench.safe_merging import Backdoor, MergerView, Repair, SafeMerge

_NAME = re.compile(r"\s*([A-Za-z][\w.-]*)\s*")
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")
_VALUE = re.compile(r"""\s*(\[[^\]]*\]|'[^']*'|"[^"]*"|[^,()\[\]>\s]+)\s*""")
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Chain:
    """Defenses applied one after the other; a single defense is a chain of one."""

    defenses: tuple[Defense, ...]

    @property
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

    @property
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
        aligned = reduce(lambda state, aligner: aligner.align(state, view), self.aligners, view.released)
        if on_aligned is not None:
            on_aligned(aligned)
        merged = self.merge.merge({view.victim: aligned, **view.donors}, view)
        return reduce(lambda state, stage: stage.recover(state, view), self.recoveries, merged)


@dataclass(frozen=True)
class Merger:
    """A parsed safe merger: a merge, then repairs of what it made."""

    merge: Merge | SafeMerge
    repairs: tuple[Repair, ...] = ()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every player in order."""
        return (self.merge, *self.repairs)

    @property
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
        merged = self.merge.merge(view.contributions, view)
        return reduce(lambda state, repair: repair.repair(state, view), self.repairs, merged)


@lru_cache(maxsize=4096)
def parse_defense(text: str) -> Chain:
    """Read a defense or a chain of them.

    Raises:
        BadPipeline: it does not parse; the message points at the place.
        UnknownName, BadConfig: a link is unknown or misconfigured.
    """
    segments = _Reader(text).segments(("defense",))
    if len(segments) != 1:
        raise BadPipeline(f"a defense has one segment; join its links with '+', not '>': {text}")
    return Chain(tuple(segments[0]))


@lru_cache(maxsize=4096)
def parse_backdoor(text: str) -> Backdoor:
    """Read a malicious contributor.

    Raises:
        BadPipeline: it does not parse, or there is more than one.
        UnknownName, BadConfig: it is unknown or misconfigured.
    """
    segments = _Reader(text).segments(("backdoor",))
    if [len(segment) for segment in segments] != [1]:
        raise BadPipeline(f"one malicious contributor stands alone: {text}")
    return cast("Backdoor", segments[0][0])


@lru_cache(maxsize=4096)
def parse_merger(text: str) -> Merger:
    """Read a safe merger: one merge of any kind, and what repairs it.

    Raises:
        BadPipeline: it does not parse, its order is wrong, or its merge needs labels, which mergers have not.
        UnknownName, BadConfig: a stage is unknown or misconfigured.
    """
    (first, *rest) = _Reader(text).segments(("merge", "sanitize", "repair"))
    if len(first) != 1 or first[0].kind == "repair" or any(s.kind != "repair" for segment in rest for s in segment):
        raise BadPipeline(f"{text}: a merger is 'one merge > repair+...'; repairs may be left out")
    if isinstance(first[0], Merge) and first[0].tier is Tier.LABELLED:
        raise BadPipeline(f"{text}: {first[0].spelling} needs labels, and mergers have unlabelled examples only")
    return Merger(cast("Merge | SafeMerge", first[0]), tuple(cast("Repair", s) for segment in rest for s in segment))


@lru_cache(maxsize=4096)
def parse_attack(text: str) -> Pipeline:
    """Read an attack pipeline; ``task-arithmetic`` alone means ``identity > task-arithmetic``.

    Raises:
        BadPipeline: it does not parse, or its stages are in the wrong order; the message points at the place.
        UnknownName, BadConfig: a stage is unknown or misconfigured.
    """
    segments = _Reader(text).segments(("align", "merge", "recover", "attack"))
    kinds = [{stage.kind for stage in segment} for segment in segments]
    if kinds == [{"attack"}] and len(segments[0]) == 1:
        return Pipeline(whole=segments[0][0])
    if kinds[0] == {"merge"}:
        segments, kinds = [[find("identity", "align")()], *segments], [{"align"}, *kinds]
    expected = [{"align"}, {"merge"}, {"recover"}][: max(2, len(kinds))]
    if kinds != expected or len(segments[1]) != 1:
        shown = " > ".join("+".join(f"{s.name} ({s.kind})" for s in segment) for segment in segments)
        raise BadPipeline(
            f"{shown}: an attack is 'aligner+... > one merge > recovery+...' (aligners and recoveries may be "
            "left out), or one whole attack alone"
        )
    recoveries = tuple(segments[2]) if len(segments) == 3 else ()
    return Pipeline(aligners=tuple(segments[0]), merge=segments[1][0], recoveries=recoveries)


@dataclass
class _Reader:
    """A recursive-descent reader that remembers where it is, for messages that point."""

    text: str
    at: int = 0

    def segments(self, kinds: tuple[Kind, ...]) -> list[list[Any]]:
        """Segments between '>' of players between '+'."""
        segments: list[list[Any]] = [[self._player(kinds)]]
        while self.at < len(self.text):
            mark = self.text[self.at]
            if mark not in "+>":
                raise self._error("expected '+', '>' or the end")
            self.at += 1
            player = self._player(kinds)
            if mark == "+":
                segments[-1].append(player)
            else:
                segments.append([player])
        return segments

    def _player(self, kinds: tuple[Kind, ...]) -> Player:
        start = len(self.text) - len(self.text[self.at :].lstrip())
        name = self._match(_NAME, "expected a name")
        config = self._config() if self.text[self.at : self.at + 1] == "(" else {}
        try:
            return find(name, *kinds)(**config)
        except ArenaError as error:
            raise type(error)(f"{error}\n{self._pointer(start)}") from None

    def _config(self) -> dict[str, Any]:
        self.at += 1
        config: dict[str, Any] = {}
        while not self._skip(")"):
            start = self.at
            key = self._match(_KEY, "expected key=value or ')'")
            if key in config:
                self.at = start
                raise self._error(f"{key!r} is given twice")
            config[key] = _value(self._match(_VALUE, f"expected a value for {key!r}"))
            if not self._skip(",") and self.text[self.at : self.at + 1] != ")":
                raise self._error("expected ',' or ')'")
        return config

    def _skip(self, mark: str) -> bool:
        rest = self.text[self.at :]
        blank = len(rest) - len(rest.lstrip())
        if not rest[blank:].startswith(mark):
            return False
        self.at += blank + 1
        rest = self.text[self.at :]
        self.at += len(rest) - len(rest.lstrip())
        return True

    def _match(self, pattern: re.Pattern[str], problem: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise self._error(problem)
        self.at = found.end()
        return found.group(1)

    def _error(self, problem: str) -> BadPipeline:
        blank = len(self.text[self.at :]) - len(self.text[self.at :].lstrip())
        return BadPipeline(f"{problem}\n{self._pointer(self.at + blank)}")

    def _pointer(self, at: int) -> str:
        return f"  {self.text}\n  {' ' * at}^"


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
