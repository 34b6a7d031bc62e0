"""Adaptive studies: the search for the strongest attack on one defense, and sweeps of one quantity."""
