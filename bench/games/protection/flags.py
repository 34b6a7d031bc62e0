"""Flags: what a reader should distrust, shown beside a result and never silent (after AutoAttack's)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from mergearena.bench.errors import ArenaError
from mergearena.bench.games.base import SPLITS
from mergearena.bench.games.match import spell
from mergearena.bench.games.protection.pipeline import Pipeline, parse_attack
from mergearena.bench.games.protection.scoring import Reference, merged_score
from mergearena.bench.games.statistics import group
from mergearena.bench.players.tier import Tier

if TYPE_CHECKING:
    from mergearena.bench.games.protection import Record

LOGIT_TOLERANCE = 1e-3
POINTS = 0.02
HARM = 0.01
"""Score of an unprotected merge that an aligner may cost before it is flagged: where nothing has to be undone, less
is noise and more is the aligner's doing."""
SPREAD = 0.10
ERASED = 0.01
SAME = 0.005
"""Score by which two readings of one model on one task may differ: processors round differently."""


@dataclass(frozen=True, order=True)
class Flag:
    """One finding about a play, an attack or a defense."""

    name: str
    defense: str
    attack: str | None
    match: str
    detail: str


References = dict[tuple[str, int], dict[Tier, Reference]]
"""(match spelling, seed) -> tier -> reference."""
Pipelines = dict[str | None, Pipeline]
"""Spelling -> parsed attack."""


def find_flags(records: Sequence[Record], references: References) -> list[Flag]:
    """Every flag that these records raise, sorted."""
    finished = [r for r in records if r.score is not None]
    attacks = [r for r in finished if r.attack is not None and r.uses_victim]
    pipelines = _parsed({r.attack for r in attacks if r.attack})
    known = [r for r in attacks if r.attack in pipelines]
    return sorted(
        {
            *_warned(finished),
            *_not_function_preserving(finished),
            *_task_vector_erased(attacks),
            *_aligner_hurts(known, pipelines),
            *_inversions(known, pipelines),
            *_seed_spread(attacks, references),
            *_inconsistent(finished),
        },
        key=lambda f: (f.name, f.defense, f.attack or "", f.match, f.detail),
    )


def _parsed(spellings: Iterable[str]) -> Pipelines:
    """Those that parse: a submission's code is never run, so that its stages are not known here."""
    found: Pipelines = {}
    for spelling in spellings:
        with suppress(ArenaError):
            found[spelling] = parse_attack(spelling)
    return found


def _where(record: Record) -> str:
    return f"{spell(record.tasks)} seed {record.seed}"


def _warned(records: Iterable[Record]) -> Iterable[Flag]:
    for r in records:
        for warning in r.warnings:
            yield Flag("warning", r.defense, r.attack, _where(r), warning)


def _not_function_preserving(records: Iterable[Record]) -> Iterable[Flag]:
    for r in records:
        if r.claims_function and r.logit_difference is not None and r.logit_difference > LOGIT_TOLERANCE:
            detail = f"claims to preserve the function; logits differ by {r.logit_difference:.1e} relative"
            yield Flag("not-function-preserving", r.defense, None, _where(r), detail)


def _task_vector_erased(records: Iterable[Record]) -> Iterable[Flag]:
    for r in records:
        if r.task_vector_ratio is not None and r.task_vector_ratio < ERASED:
            detail = f"the aligned victim is the base: its task vector is {r.task_vector_ratio:.2%} of the donors'"
            yield Flag("task-vector-erased", r.defense, r.attack, _where(r), detail)


def _score(record: Record) -> float:
    assert record.score is not None
    return merged_score(record.score.test)


def _aligner_hurts(records: Iterable[Record], pipelines: Pipelines) -> Iterable[Flag]:
    """An aligner lowers the unprotected merge by more than 1 point."""
    plain = {}
    for r in records:
        pipeline = pipelines[r.attack]
        if r.defense == "none" and [a.name for a in pipeline.aligners] == ["identity"]:
            plain[_where(r), _after_alignment(pipeline)] = _score(r)
    for r in records:
        before = plain.get((_where(r), _after_alignment(pipelines[r.attack])))
        if r.defense == "none" and before is not None and before - _score(r) > HARM:
            detail = f"lowers the unprotected merge by {100 * (before - _score(r)):.1f} points"
            yield Flag("aligner-hurts-unprotected", r.defense, r.attack, _where(r), detail)


def _after_alignment(pipeline: Pipeline) -> str:
    return " > ".join(s.spelling for s in pipeline.stages if s.kind != "align")


def _inversions(records: Sequence[Record], pipelines: Pipelines) -> Iterable[Flag]:
    """Pairs of attacks that differ only in what they may use, where using more does worse by over 2 points.

    ``tier-inversion``: a lower tier beats a higher; ``budget-inversion``: fewer steps beat more;
    ``gradient-masked``: a merge beats itself fine-tuned.
    """
    for (defense, where), here in group(records, lambda r: (r.defense, _where(r))).items():
        for less in here:
            for more in here:
                name = _more_of_the_same(pipelines[less.attack], pipelines[more.attack])
                lost = _score(less) - _score(more)
                if name and lost > POINTS:
                    detail = f"{100 * lost:.1f} points under {less.attack}, which uses less"
                    yield Flag(name, defense, more.attack, where, detail)


def _more_of_the_same(less: Pipeline, more: Pipeline) -> str | None:
    """The flag that applies if ``more`` does worse than ``less``, or None if they are not comparable."""
    if more.recoveries and not less.recoveries and less.spelling == _before_recovery(more):
        return "gradient-masked"
    if [s.name for s in less.stages] != [s.name for s in more.stages]:
        return None
    if less.tier.rank < more.tier.rank:
        return "tier-inversion"
    budgets = [[getattr(s.config, "steps", 0) for s in p.stages] for p in (less, more)]
    if budgets[0] < budgets[1] and _without_steps(less) == _without_steps(more):
        return "budget-inversion"
    return None


def _before_recovery(pipeline: Pipeline) -> str:
    return Pipeline(aligners=pipeline.aligners, merge=pipeline.merge).spelling


def _without_steps(pipeline: Pipeline) -> list[tuple[str, dict[str, object]]]:
    return [(s.name, {k: v for k, v in s.config if k != "steps"}) for s in pipeline.stages]


def _seed_spread(records: Iterable[Record], references: References) -> Iterable[Flag]:
    """``recovered`` of one attack on one defense differs by more than 10 points between seeds."""
    for (defense, attack, tasks), here in group(records, lambda r: (r.defense, r.attack, r.tasks)).items():
        values = []
        for r in here:
            found = references.get((spell(tasks), r.seed), {}).get(r.tier or Tier.DATA_FREE)
            if found is not None and found.is_match and r.score is not None:
                values.append(found.points.recovered(r.victim, r.score.test))
        if len(values) > 1 and max(values) - min(values) > SPREAD:
            detail = f"recovered between {min(values):.2f} and {max(values):.2f}, mean {fmean(values):.2f}"
            yield Flag("seed-spread", defense, attack, spell(tasks), detail)


def _inconsistent(records: Iterable[Record]) -> Iterable[Flag]:
    """A model that is known reads differently on one task as a victim's and as a donor's, or from match to match."""
    readings = [
        (model, split, task, share, r)
        for r in records
        if r.score is not None and (model := _known_model(r)) is not None
        for split in SPLITS
        for task, share in r.score.on(split).items()
    ]
    for (_, split, task), here in group(readings, lambda reading: reading[:3]).items():
        (*_, low, first), (*_, high, last) = (extreme(here, key=lambda reading: reading[3]) for extreme in (min, max))
        if high - low > SAME:
            detail = f"one model reads {low:.3f} and {high:.3f} on {task}, {split}: scores are mixed up"
            for r in (first, last):
                yield Flag("inconsistent-score", r.defense, r.attack, _where(r), detail)


def _known_model(record: Record) -> str | None:
    """The SHA-256 of the judged model, where the play hands back one that it was given."""
    models = record.provenance.checkpoints
    if record.attack is None and record.defense == "none":
        return models.get(record.victim)
    if record.attack == "donors-only" and len(record.donors) == 1:
        return models.get(record.donors[0])
    return models.get("base") if record.attack == "base-only" else None
