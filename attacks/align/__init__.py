"""Aligners: the released model, moved back towards the base's gauge."""
