"""The protection game: a defense rewrites a victim before release, an attack merges it all the same.

A match is (suite, victim, donors). Its plays are *releases* (a defense rewrites the victim; shared by every attack
on it) and *attacks* (a pipeline meets one released model, or plays as a baseline without it).
"""

from mergearena.bench.games.protection.plan import plan
from mergearena.bench.games.protection.play import Play
from mergearena.bench.games.protection.record import Match, Record
from mergearena.bench.games.protection.roles import draw_examples, judge
from mergearena.bench.games.protection.scoring import ENOUGH, settled

__all__ = ["ENOUGH", "Match", "Play", "Record", "draw_examples", "judge", "plan", "settled"]
