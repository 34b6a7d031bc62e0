"""MergeArena: the adversarial-robustness benchmark for model merging."""

__version__ = "0.2.0"
