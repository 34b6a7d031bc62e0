"""Importing this registers every attack of this project (the entry point ``mergearena.attacks``)."""

from bench.registry import import_all

import_all("attacks")
