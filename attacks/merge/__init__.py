"""Merges: several models, one model."""
