"""Players: what they are, what they may see, how they are registered, spelled and found."""
