"""Submissions: a template to start from, gates that a player must pass, a score and the folder that joins the board."""
