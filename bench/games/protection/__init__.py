"""The protection game: a defense rewrites a victim before release, an attack merges it all the same.

A match is (suite, victim, donors). Its plays are *releases* (a defense rewrites the victim; shared by every attack
on it) and *attacks* (a pipeline meets one released model, or plays as a baseline without it).
"""

from bench.games.protection.play import ENOUGH, Play, plan, settled
from bench.games.protection.record import Match, Record
from bench.games.protection.rules import draw_examples, judge

__all__ = ["ENOUGH", "Match", "Play", "Record", "draw_examples", "judge", "plan", "settled"]
