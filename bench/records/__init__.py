"""Records: one play's fields, cost, place and text."""
