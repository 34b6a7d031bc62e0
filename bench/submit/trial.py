"""Plays of one submitted player on the toys: the real games, with its inputs read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench import registry
from bench.declaration import Declaration
from bench.games import backdoor, protection
from bench.games.base import Files, Play, Played, Protocol, Steps, protocol
from bench.submit.read_only import inputs_read_only
from bench.suites import Suite

EXAMPLES = 16
_SPELLED = {
    "align": "{} > task-arithmetic",
    "merge": "identity > {}",
    "recover": "identity > task-arithmetic > {}",
    "attack": "{}",
    "sanitize": "{}",
    "repair": "task-arithmetic > {}",
}


@dataclass(frozen=True, kw_only=True)
class ProtectionTrial(protection.Play):
    """A release or an attack."""

    submitted: str

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Play, with the submitted player's inputs read-only."""
        with inputs_read_only(registry.find(self.submitted)):
            return super().run(suite, files, progress)


@dataclass(frozen=True, kw_only=True)
class BackdoorTrial(backdoor.Play):
    """A contribution or a merge."""

    submitted: str

    def run(self, suite: Suite, files: Files, progress: Steps) -> Played:
        """Play, with the submitted player's inputs read-only."""
        with inputs_read_only(registry.find(self.submitted)):
            return super().run(suite, files, progress)


def trial(player: Declaration, suite: str, tasks: tuple[str, ...], key: str, seed: int) -> Play:
    """The play that puts a player through its paces; an attack meets an undefended victim, a merger clean uploads."""
    held: Protocol = protocol(suite, tasks, key, EXAMPLES)
    common: dict[str, Any] = {"protocol": held, "seed": seed, "submitted": player.name}
    spelled = _SPELLED.get(player.kind, "{}").format(player.name)
    if player.kind == "defense":
        return ProtectionTrial(**common, victim=tasks[0], defense=spelled)
    if player.kind == "backdoor":
        return BackdoorTrial(**common, contributors=tasks, malicious=player.uploads, attack=spelled)
    if player.kind in ("sanitize", "repair"):
        return BackdoorTrial(**common, contributors=tasks, defense=spelled)
    return ProtectionTrial(**common, victim=tasks[0], donors=tasks[1:2], defense="none", attack=spelled)
