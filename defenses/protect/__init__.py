"""Protections: rewrites of a victim before release."""
