"""The runner: plays -> records."""
