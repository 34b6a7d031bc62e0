"""The board: records -> leaderboard.json, a pure function."""
