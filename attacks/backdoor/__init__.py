"""Malicious contributors: one file per method."""
