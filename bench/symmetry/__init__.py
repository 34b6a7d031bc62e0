"""The symmetry map: which rearrangements of weights leave a model's function as it is."""
