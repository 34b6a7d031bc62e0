"""MergeArena: the adversarial-robustness benchmark for model merging."""

__version__ = "0.1.0"
