"""The committed records, submissions and claims, and whether they are whole."""
