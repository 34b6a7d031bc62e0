"""What a submitted player is scored on: the plays, under a key that nobody has seen before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergearena.bench import suites
from mergearena.bench.games import backdoor, protection
from mergearena.bench.games.backdoor import presets as backdoor_presets
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.base import Play
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import parse_attack, parse_defense
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.stand_in import Declaration
from mergearena.bench.records.official import EXAMPLES, KEY

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
    spelled: str
    """The whole defense, attack or merger."""

    @classmethod
    def of(cls, player: Declaration, pipeline: str | None) -> Entry:
        """The entry of a player, alone or in a pipeline of the submitter's."""
        return cls(player, pipeline or _AROUND.get(player.kind, "{}").format(player.name))

    @property
    def track(self) -> str:
        """The game it plays."""
        return "backdoor" if self.player.kind in ("backdoor", "sanitize", "repair") else "protection"

    @property
    def attacks(self) -> bool:
        """Whether it is an attack."""
        return self.player.kind in ("align", "merge", "recover", "attack", "backdoor")


def planned(entry: Entry, suite: str, preset: str, key: str) -> Sequence[Play]:
    """A defense meets ``auto``, an attack every defense; mergers and contributors meet each other.

    Raises:
        ArenaError: the pipeline around a stage does not parse.
    """
    return (_backdoor if entry.track == "backdoor" else _protection)(entry, suite, preset, key)


def _protection(entry: Entry, suite: str, preset: str, key: str) -> Sequence[Play]:
    grid = presets.preset(preset, suite, tuple(suites.get(suite).tasks))
    baselines = [attack for attack in grid.attacks if attack in presets.BASELINES]
    cascade: tuple[str, ...] = ()
    if entry.attacks:
        defenses = grid.defenses
        along = [attack for attack in grid.attacks if attack not in (*baselines, presets.AUTO_NAME)]
        attacks = [*baselines, *along, entry.spelled]
    else:
        defenses, attacks, cascade = (entry.spelled,), [*baselines, presets.REPRESENTATIVE[0]], presets.AUTO
    used = dict.fromkeys(task for match in grid.matches for task in match.tasks)
    return protection.plan(
        protocol(suite, used, key, EXAMPLES),
        grid.matches,
        grid.seeds,
        [parse_defense(text) for text in defenses],
        [parse_attack(text) for text in attacks],
        [parse_attack(text) for text in cascade],
        public=protocol(suite, used, KEY, EXAMPLES),
    )


def _backdoor(entry: Entry, suite: str, preset: str, key: str) -> Sequence[Play]:
    grid = backdoor_presets.preset(preset, suite, tuple(suites.get(suite).tasks))
    mergers, attacks = (grid.mergers, (entry.spelled,)) if entry.attacks else ((entry.spelled,), grid.attacks)
    used = dict.fromkeys(task for match in grid.matches for task in match.tasks)
    return backdoor.plan(
        protocol(suite, used, key, EXAMPLES),
        grid.matches,
        grid.seeds,
        [parse_backdoor(text) for text in attacks],
        [parse_merger(text) for text in mergers],
    )
