"""From what a run is asked for to the protection game's plays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mergearena.bench import suites
from mergearena.bench.games import protection
from mergearena.bench.games.base import Play
from mergearena.bench.games.grid import Options
from mergearena.bench.games.match import parse_tasks
from mergearena.bench.games.protection import presets
from mergearena.bench.games.protection.pipeline import Pipeline, parse_attack, parse_defense
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.tier import Tier


def planned(options: Options) -> Sequence[Play]:
    """The plays that a run is asked for, in the order to run them."""
    tasks = tuple(suites.get(options.suite).tasks)
    grid = presets.preset(options.preset, options.suite, tasks)
    matches = [
        protection.Match(options.suite, victim, tuple(donors))
        for victim, *donors in (parse_tasks(m, options.suite, tasks) for m in options.matches)
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
