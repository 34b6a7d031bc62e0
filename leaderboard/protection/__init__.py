"""The protection game's part of board, page and terminal."""
