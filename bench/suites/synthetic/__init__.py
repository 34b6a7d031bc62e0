"""Inputs that code makes: they look like a suite's from afar, and no recorded example is in them."""
