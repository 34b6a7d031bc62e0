"""How the embedded suite's data packs and weights are made."""
