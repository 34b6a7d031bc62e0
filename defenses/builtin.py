"""Importing this registers every defense of this project (the entry point ``mergearena.defenses``)."""

from bench.registry import import_all

import_all("defenses")
