"""Executors: where plays run."""
