"""What a submitted player is scored on: the plays, under a key that nobody has seen before."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import backdoor_presets, presets, suites
from bench.declaration import Declaration
from bench.games.base import Play
from bench.tracks import TRACKS, Options

_ALIGNED = "weight-matching+gauge-anchor"
_AROUND = {
    "align": "{} > task-arithmetic",
    "merge": f"{_ALIGNED} > {{}}",
    "recover": f"{_ALIGNED} > task-arithmetic > {{}}",
    "repair": "task-arithmetic > {}",
}
"""Kind -> the stages around it that a score gives a single stage."""


@dataclass(frozen=True)
class Entry:
    """A submitted player as it is scored."""

    player: Declaration
    track: str
    spelled: str
    """The whole defense, attack or merger."""

    @property
    def attacks(self) -> bool:
        """Whether it is an attack."""
        return self.player.kind in ("align", "merge", "recover", "attack", "backdoor")

    @classmethod
    def of(cls, player: Declaration, pipeline: str | None) -> Entry:
        """The entry of a player, alone or in a pipeline of the submitter's."""
        track = "backdoor" if player.kind in ("backdoor", "sanitize", "repair") else "protection"
        return cls(player, track, pipeline or _AROUND.get(player.kind, "{}").format(player.name))


def planned(entry: Entry, suite: str, preset: str, key: str) -> Sequence[Play]:
    """A defense meets ``auto``, an attack every defense; mergers and contributors meet each other."""
    defenses: tuple[str, ...] = (entry.spelled,)
    attacks: tuple[str, ...] = (entry.spelled,)
    tasks = tuple(suites.get(suite).tasks)
    if entry.track == "backdoor":
        mirror = backdoor_presets.preset(preset, suite, tasks)
        defenses, attacks = (mirror.mergers, attacks) if entry.attacks else (defenses, mirror.attacks)
    elif entry.attacks:
        grid = presets.preset(preset, suite, tasks)
        along = tuple(a for a in grid.attacks if a not in presets.BASELINES)
        defenses, attacks = grid.defenses, (*along, *attacks)
    else:
        attacks = (presets.REPRESENTATIVE[0], presets.AUTO_NAME)
    options = Options(
        track=entry.track,
        suite=suite,
        preset=preset,
        defenses=defenses,
        attacks=attacks,
        matches=(),
        malicious=1,
        tier="labelled",
        seeds=(),
        jobs=1,
        records=Path(),
        out=Path(),
        fresh=False,
        timeout=0,
        memory=0,
        examples=256,
        key=key,
        plugins=(),
    )
    return TRACKS[entry.track].plan(options)


def fresh_key() -> str:
    """A run key from which nobody knows the draws beforehand."""
    return secrets.token_hex(16)
