"""Records -> board: what the games' boards share."""
