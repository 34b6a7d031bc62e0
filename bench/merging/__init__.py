"""Kernels on task vectors, one piece of a tensor at a time."""
