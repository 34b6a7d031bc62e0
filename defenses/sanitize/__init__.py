"""Safe merges, and repairs of merged models: one file per method."""
