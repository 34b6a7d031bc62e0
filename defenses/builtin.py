"""Importing this registers every defense of this project (the entry point ``mergearena.defenses``)."""

from mergearena.bench.players.registry import import_all

import_all("mergearena.defenses")
