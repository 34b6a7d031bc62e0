"""The protocol of official records: those of the committed board, and what a plain run plays under."""

KEY = "mergearena"
"""The run key."""
EXAMPLES = 256
"""k: examples per task in the data tiers."""
