"""Bytes on disk: atomic writes, hashes, checkpoints, tables, self-contained pages."""
