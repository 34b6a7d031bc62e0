"""What the commands know of each track: what its options mean, and how its board looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from bench import backdoor_presets, backdoor_terminal, presets, suites, terminal
from bench.errors import BadConfig
from bench.game import Player, Tier
from bench.games import backdoor, protection
from bench.games.base import Play, protocol
from bench.pipeline import Pipeline, parse_attack, parse_backdoor, parse_defense, parse_merger
from bench.registry import players

if TYPE_CHECKING:
    from leaderboard.board import Leaderboard


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

    track: str
    suite: str
    preset: str
    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    matches: tuple[str, ...]
    malicious: int
    """Backdoor track: how many of a match's contributors are one attacker's."""
    tier: str
    """The highest tier to play in."""
    seeds: tuple[int, ...]
    jobs: int
    records: Path
    out: Path
    fresh: bool
    keep: bool
    timeout: float
    memory: float
    examples: int
    key: str
    plugins: tuple[Path, ...]


@dataclass(frozen=True)
class Track:
    """One track, as the commands see it."""

    plan: Callable[[Options], Sequence[Play]]
    so_far: Callable[[Sequence[Any], Leaderboard], Sequence[RenderableType]]
    """The plays of a run of this track and what is known of them, as a matrix."""
    shown: Callable[[Leaderboard], Iterable[RenderableType]]


def _protection(options: Options) -> Sequence[Play]:
    tasks = tuple(suites.get(options.suite).tasks)
    grid = presets.preset(options.preset, options.suite, tasks)
    matches = [
        protection.Match(options.suite, victim, tuple(donors))
        for victim, *donors in (presets.parse_tasks(m, options.suite, tasks) for m in options.matches)
    ] or grid.matches
    attacks = (*presets.BASELINES, *options.attacks) if options.attacks else grid.attacks
    chains = [parse_defense(d) for d in options.defenses or grid.defenses]
    pipelines = _within(Tier(options.tier), (a for a in attacks if a != presets.AUTO_NAME))
    cascade = _within(Tier(options.tier), presets.AUTO if presets.AUTO_NAME in attacks else ())
    used = dict.fromkeys(task for match in matches for task in match.tasks)
    held = protocol(options.suite, used, options.key, options.examples)
    return protection.plan(held, matches, options.seeds or grid.seeds, chains, pipelines, cascade)


def _within(tier: Tier, attacks: Iterable[str]) -> list[Pipeline]:
    """The parsed attacks that a tier allows."""
    return [pipeline for pipeline in map(parse_attack, attacks) if tier.allows(pipeline.tier)]


def _backdoor(options: Options) -> Sequence[Play]:
    tasks = tuple(suites.get(options.suite).tasks)
    grid = backdoor_presets.preset(options.preset, options.suite, tasks)
    named = [presets.parse_tasks(m, options.suite, tasks) for m in options.matches] or [m.tasks for m in grid.matches]
    matches = [backdoor.Match(options.suite, names, options.malicious) for names in named]
    mergers = [parse_merger(text) for text in options.defenses or grid.mergers]
    allowed = [merger for merger in mergers if Tier(options.tier).allows(merger.tier)]
    if not allowed:
        raise BadConfig(f"no merger plays in tier {options.tier}; allow a higher one with --tier")
    attacks = [parse_backdoor(text) for text in options.attacks or grid.attacks]
    used = dict.fromkeys(task for match in matches for task in match.tasks)
    held = protocol(options.suite, used, options.key, options.examples)
    return backdoor.plan(held, matches, options.seeds or grid.seeds, attacks, allowed)


TRACKS = {
    "protection": Track(
        _protection,
        lambda plays, board: terminal.so_far(plays, board.protection),
        lambda board: map(terminal.render, board.protection),
    ),
    "backdoor": Track(
        _backdoor,
        lambda plays, board: backdoor_terminal.so_far(plays, board.backdoor),
        lambda board: map(backdoor_terminal.render, board.backdoor),
    ),
}


def unplayed() -> list[str]:
    """Registered players that no preset plays; empty in this project, which a test asserts. Any merge is a merger."""
    stages: list[Player] = []
    for text in presets.every_defense("embedded"):
        stages += parse_defense(text).defenses
    for text in (*presets.BASELINES, *presets.CATALOGUE):
        stages += parse_attack(text).stages
    for text in backdoor_presets.MERGERS:
        stages += parse_merger(text).stages
    stages += [parse_backdoor(text) for text in backdoor_presets.ATTACKS]
    played = {stage.name for stage in stages}
    return [player.name for player in players() if player.name not in played]
