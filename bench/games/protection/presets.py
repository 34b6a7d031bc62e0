"""Presets: which matches, seeds, defenses and attacks a run plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from mergearena.bench.errors import UnknownName
from mergearena.bench.games.protection import Match

_QUICK_DEFENSES = (
    "none",
    "params",
    "params(scaling=symmetric)",
    "params(scaling=nonsymmetric)",
    "params(dropout=task-vector)",
    "params(dropout=weights)+params(scaling=symmetric)",
)
_PUBLISHED = (
    *_QUICK_DEFENSES,
    "mergelock",
    "mergebarrier",
    "mergeguard",
    "mergeguard(taken=0.02)",
    "trap2",
    "arf",
)
_OURS = (
    "shuffle-heads",
    "shuffle-heads+mergelock+params(scaling=nonsymmetric)",
    "shift",
    "shift+params(scaling=nonsymmetric)",
    "moat",
    "relocate",
)
_WITH_RESIDUAL = (
    "residual",
    "gated-scale(norms=true)",
    "residual+shuffle-heads+mergelock+params(scaling=nonsymmetric)",
)
"""Defenses that need a residual stream or norms that can be moved, which the encoder of ``text`` has not."""
_FEW_AGAINST_CATALOGUE = ("none", "params(scaling=nonsymmetric)", "trap2", "moat")
_AGAINST_CATALOGUE = (
    *_FEW_AGAINST_CATALOGUE,
    "params",
    "params(dropout=weights)+params(scaling=symmetric)",
    "arf",
)
BASELINES = ("base-only", "donors-only", "adamerge-donors", "finetune-base", "finetune-donors")
_ALIGNED = "weight-matching+gauge-anchor"
_EVERY_SYMMETRY = (
    "shift-anchor(to=zero)+residual-matching+block-matching+head-matching+weight-matching+gauge-anchor"
    "+scale-normalization+shift-anchor+gauge-anchor"
)
_ADAPTIVE = (
    f"{_EVERY_SYMMETRY} > victim-first",
    f"{_ALIGNED}+attention-shrink > task-arithmetic",
    "base-attention(mlps=true) > task-arithmetic",
    "block-matching+transplant(probes=1024, ridge=0.001) > victim-first(scale=1.0, donors=1.5)",
    "transplant > task-arithmetic",
    "block-matching+transplant > task-arithmetic",
)
"""Written against one defense: Trap2 (the first and the fourth), ARF, and, with the block matching of the other steps
of ``auto``, moat."""
REPRESENTATIVE = (
    "identity > task-arithmetic",
    "weight-matching > task-arithmetic",
    "weight-matching(similarity=cosine)+gauge-anchor > ties",
    "weight-matching+scale-normalization > task-arithmetic",
    f"{_ALIGNED} > task-arithmetic",
    f"{_ALIGNED} > average",
    f"{_ALIGNED} > task-arithmetic > finetune",
)
_FEW_BASELINES = ("base-only", "donors-only", "finetune-base", "finetune-donors")
_ALIGNERS = (
    "identity",
    "weight-matching",
    "weight-matching(similarity=cosine)",
    "weight-matching(reference=donor)",
    "weight-matching(residual=true)+gauge-anchor",
    "activation-matching(similarity=correlation)",
    "scale-normalization",
    "weight-matching+scale-normalization",
    "weight-matching+scale-normalization(method=norm-ratio)",
    "gauge-anchor",
    _ALIGNED,
    "weight-matching+gauge-anchor(refine=0)",
    "weight-matching(similarity=cosine)+gauge-anchor",
    "activation-matching(similarity=correlation)+gauge-anchor",
    "anchor",
    "shift-anchor",
    "weight-matching+rotation-matching",
    "head-matching+weight-matching+gauge-anchor",
    _EVERY_SYMMETRY,
    "weight-matching+base-attention",
    f"{_ALIGNED}+polish",
    f"{_ALIGNED}+polish(objective=unlabelled)",
    f"{_ALIGNED}+polish(objective=labelled)",
)
_MERGES = (
    "average",
    "ties",
    "ties(density=0.5)",
    "dare",
    "dare(then=ties)",
    "breadcrumbs",
    "della",
    "slerp",
    "slerp(space=task-vectors)",
    "model-stock",
    "consensus",
    "pcb",
    "tsv",
    "iso",
    "iso(variant=cts)",
    "localize-and-stitch",
    "fisher",
    "regmean",
    "adamerging",
    "adamerging(loss=cross-entropy)",
    "task-arithmetic(scale=chosen)",
    "task-arithmetic(scale=per-model)",
    "tsv(scale=chosen)",
)
_RECOVERIES = (
    "finetune",
    "finetune(steps=100)",
    "distill",
    "distill(steps=100)",
    "norm-recalibrate",
)
CATALOGUE = (
    *(f"{aligner} > task-arithmetic" for aligner in _ALIGNERS),
    *(f"{_EVERY_SYMMETRY} > {merge}" for merge in _MERGES),
    *(f"{_EVERY_SYMMETRY} > task-arithmetic > {recovery}" for recovery in _RECOVERIES),
    *_ADAPTIVE,
    *(f"identity > {merge}" for merge in ("average", "ties", "regmean", "task-arithmetic(scale=per-model)")),
    "identity > task-arithmetic > finetune(steps=100)",
    "distill-base",
    "distill-donors",
)
AUTO_NAME = "auto"
AUTO = (
    f"{_EVERY_SYMMETRY} > task-arithmetic",
    _ADAPTIVE[0],
    f"{_EVERY_SYMMETRY} > dare",
    f"{_EVERY_SYMMETRY} > iso(variant=cts)",
    *_ADAPTIVE[1:4],
    f"{_EVERY_SYMMETRY} > adamerging",
    *_ADAPTIVE[4:],
    f"{_EVERY_SYMMETRY} > task-arithmetic > distill(steps=100)",
    f"{_EVERY_SYMMETRY} > tsv(scale=chosen)",
    f"{_EVERY_SYMMETRY} > task-arithmetic > finetune(steps=100)",
)
"""The standard ensemble, in the order in which it is played; ``mergearena auto check`` compares it with the rest."""
NAIVE_AND_AUTO = (REPRESENTATIVE[0], *AUTO)
"""What every submitted defense meets: where the naive attack recovers the skill already, the cascade plays nothing."""

_SCALED = "params(scaling=nonsymmetric"
# A canonical spelling leaves out the default rate, 0.2.
_DROPOUT = tuple(
    f"{_SCALED}, dropout={reading}{rate})"
    for reading in ("task-vector", "weights")
    for rate in (", rate=0.1", "", ", rate=0.4", ", rate=0.6", ", rate=0.8")
)
_AGAINST_DROPOUT = (
    "identity > task-arithmetic",
    "identity > average",
    f"{_ALIGNED} > task-arithmetic",
    f"{_ALIGNED} > average",
    f"{_ALIGNED} > ties",
    f"{_ALIGNED} > dare",
    "activation-matching(similarity=correlation)+gauge-anchor > task-arithmetic",
    f"{_ALIGNED} > adamerging",
    f"{_ALIGNED} > task-arithmetic > finetune",
)

# Every task is a victim once. First come pairs whose tasks differ and whose victims gain much: after three matches it
# is plain what there is to steal.
_MATCHES = {
    "embedded": (
        ("animals", "mnist"),
        ("fashion", "letters"),
        ("textures", "digits"),
        ("mnist", "fashion"),
        ("digits", "animals"),
        ("letters", "textures"),
    ),
    "text": (("pos", "sentiment"), ("sentiment", "pos"), ("sections", "sentiment"), ("supersense", "sections")),
}


@dataclass(frozen=True)
class Preset:
    """The grid of a named preset on one suite."""

    matches: tuple[Match, ...]
    seeds: tuple[int, ...]
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]


NAMES = ("quick", "standard", "catalogue", "full", "dropout")


def preset(name: str, suite: str, tasks: Sequence[str]) -> Preset:
    """The preset of that name.

    ``standard``, the official board, makes every task a victim once, against the naive attack and ``auto``: its
    matches are its replicates; ``quick`` plays the first three of them, with a few representative attacks;
    ``catalogue`` plays every pipeline on the first two, against some defenses (on ``text`` one and fewer); ``full``
    plays all ordered pairs, every victim against all other tasks at once, three seeds, every pipeline; ``dropout``
    sweeps the rate of ``params``'s dropout pruning on the matches of ``quick``.

    Raises:
        UnknownName: there is none of that name.
    """
    matches = _matches(suite, _MATCHES.get(suite) or tuple(zip(tasks, (*tasks[1:], *tasks[:1]), strict=True)))
    if name == "quick":
        return Preset(matches[:3], (0,), _QUICK_DEFENSES, (*_FEW_BASELINES, *REPRESENTATIVE))
    if name == "standard":
        naive = (REPRESENTATIVE[0], AUTO_NAME)
        return Preset(matches, (0,), every_defense(suite), (*BASELINES, *naive))
    if name == "catalogue":
        count, against = (1, _FEW_AGAINST_CATALOGUE) if suite == "text" else (2, _AGAINST_CATALOGUE)
        return Preset(matches[:count], (0,), against, (*BASELINES, *CATALOGUE))
    if name == "full":
        many = tuple((victim, *(t for t in tasks if t != victim)) for victim in tasks)
        every = (*permutations(tasks, 2), *many)
        single_donors = tuple(f"donors-only(donor={i})" for i in range(len(tasks) - 1))
        return Preset(_matches(suite, every), (0, 1, 2), every_defense(suite), (*BASELINES, *single_donors, *CATALOGUE))
    if name == "dropout":
        defenses = ("none", f"{_SCALED})", *_DROPOUT)
        return Preset(matches[:3], (0,), defenses, (*_FEW_BASELINES, *_AGAINST_DROPOUT))
    raise UnknownName(f"unknown preset {name!r}; there are: {', '.join(NAMES)}")


def every_defense(suite: str) -> tuple[str, ...]:
    """Published defenses and ours."""
    return (*_PUBLISHED, *_OURS, *(() if suite == "text" else _WITH_RESIDUAL))


def _matches(suite: str, groups: Sequence[Sequence[str]]) -> tuple[Match, ...]:
    return tuple(Match(suite, group[0], tuple(group[1:])) for group in groups)
