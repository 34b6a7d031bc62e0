"""Importing this registers every attack of this project (the entry point ``mergearena.attacks``)."""

from mergearena.bench.players.registry import import_all

import_all("mergearena.attacks")
