"""Board -> page."""
