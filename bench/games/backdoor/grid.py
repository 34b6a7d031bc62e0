"""From what a run is asked for to the backdoor game's plays."""

from __future__ import annotations

from collections.abc import Sequence

from mergearena.bench import suites
from mergearena.bench.errors import BadConfig
from mergearena.bench.games import backdoor
from mergearena.bench.games.backdoor.pipeline import parse_backdoor, parse_merger
from mergearena.bench.games.backdoor.presets import preset
from mergearena.bench.games.base import Play
from mergearena.bench.games.grid import Options
from mergearena.bench.games.match import parse_tasks
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.tier import Tier
from mergearena.bench.suites.classification import classification


def planned(options: Options) -> Sequence[Play]:
    """The plays that a run is asked for, in the order to run them."""
    tasks = tuple(classification(suites.get(options.suite)).tasks)
    grid = preset(options.preset, options.suite, tasks)
    named = [parse_tasks(m, options.suite, tasks) for m in options.matches] or [m.tasks for m in grid.matches]
    matches = [backdoor.Match(options.suite, names, options.malicious) for names in named]
    mergers = [parse_merger(text) for text in options.defenses or grid.mergers]
    allowed = [merger for merger in mergers if Tier(options.tier).allows(merger.tier)]
    if not allowed:
        raise BadConfig(f"no merger plays in tier {options.tier}; allow a higher one with --tier")
    attacks = [parse_backdoor(text) for text in options.attacks or grid.attacks]
    used = dict.fromkeys(task for match in matches for task in match.tasks)
    held = protocol(options.suite, used, options.key, options.examples)
    return backdoor.plan(held, matches, options.seeds or grid.seeds, attacks, allowed)
