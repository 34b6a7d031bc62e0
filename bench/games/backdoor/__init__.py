"""The backdoor game: malicious contributors poison what they upload, a merger makes one safe model of all uploads.

A match is (suite, contributors, how many of them are malicious). Its plays are *contributions* (a malicious
contributor makes its uploads and its trigger; shared by every merger that meets them) and *merges* (a merger, not told
who is malicious, meets one attack's contributions, or clean ones).
"""

from mergearena.bench.games.backdoor.plan import plan
from mergearena.bench.games.backdoor.play import Play
from mergearena.bench.games.backdoor.record import Match, Record
from mergearena.bench.games.backdoor.roles import halves

__all__ = ["Match", "Play", "Record", "halves", "plan"]
