"""The backdoor game's part of board, page and terminal."""
