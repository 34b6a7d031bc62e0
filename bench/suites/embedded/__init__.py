"""The embedded suite: a small CLIP on six real image tasks, shipped inside the package."""

SUITES = {"embedded": "suite:EmbeddedSuite"}
