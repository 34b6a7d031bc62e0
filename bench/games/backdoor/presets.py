"""Presets of the backdoor track: which matches, seeds, mergers and malicious contributors a run plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergearena.bench.errors import UnknownName
from mergearena.bench.games.backdoor import Match

_PLAIN = ("task-arithmetic", "average", "ties", "adamerging")
_FEW_MERGERS = ("task-arithmetic", "ties", "adamerging", "dam", "wag", "task-arithmetic > anp")
_OTHER_DAMS = ("dam(variant=dual)", "dam(variant=single)")
MERGERS = (
    *_PLAIN,
    "dare",
    "regmean",
    "breadcrumbs",
    "model-stock",
    "consensus",
    "tsv",
    "dam",
    *_OTHER_DAMS,
    "wag",
    "msd",
    "lfpm",
    "adamerging > anp",
    "adamerging > awm",
    "adamerging > sau",
)
_PUBLISHED_DAM = "perturbation=ball, alpha=0.1"
_MASKS = ("dual", "single", "task-shared")
_ABLATION = (
    "adamerging",
    *(f"dam(variant={masks})" for masks in _MASKS),
    *(f"dam(variant={masks}-consistent)" for masks in _MASKS),
    f"dam(variant=dual, {_PUBLISHED_DAM})",
    f"dam(variant=single, {_PUBLISHED_DAM})",
)
_FEW_ATTACKS = ("badnets", "badmerging-on")
ATTACKS = (*_FEW_ATTACKS, "badmerging-off", "trojvit", "amplified", "colluding", "adaptive")


@dataclass(frozen=True)
class Preset:
    """The grid of a named preset on one suite."""

    matches: tuple[Match, ...]
    seeds: tuple[int, ...]
    mergers: tuple[str, ...]
    attacks: tuple[str, ...]


NAMES = ("quick", "standard", "contributors", "masks")


def preset(name: str, suite: str, tasks: Sequence[str]) -> Preset:
    """The preset of that name.

    ``quick`` plays one match of three contributors with the best-known attacks; ``standard``, the official board, has
    all tasks contribute, the first of them malicious, against every merger and attack (on ``text`` of a merger's
    variants one); ``contributors`` asks what clean models alone are worth: ever more of them, against plain merges;
    ``masks`` takes DAM apart: either mask alone and both, learned from either loss, with perturbations of either kind,
    beside the AdaMerging that it starts from.

    Raises:
        UnknownName: there is none of that name.
    """
    if name == "quick":
        return Preset((Match(suite, tuple(tasks[:3])),), (0,), _FEW_MERGERS, _FEW_ATTACKS)
    if name == "standard":
        mergers = tuple(m for m in MERGERS if suite != "text" or m not in _OTHER_DAMS)
        return Preset((Match(suite, tuple(tasks)),), (0,), mergers, ATTACKS)
    if name == "contributors":
        matches = tuple(Match(suite, tuple(tasks[:count])) for count in range(2, len(tasks) + 1))
        return Preset(matches, (0,), _PLAIN, _FEW_ATTACKS)
    if name == "masks":
        return Preset((Match(suite, tuple(tasks)),), (0,), _ABLATION, _FEW_ATTACKS)
    raise UnknownName(f"unknown preset {name!r} of the backdoor track; there are: {', '.join(NAMES)}")
