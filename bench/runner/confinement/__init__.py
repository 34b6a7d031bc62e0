"""What a player's process may not do, by the kernel's own means."""
