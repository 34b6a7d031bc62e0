"""Games: matches, what to play and how to judge it, one file each."""
