"""What an attacker or a merger may use beyond the weights."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """What an attacker may use beyond the weights; each tier includes the ones before it."""

    DATA_FREE = "data-free"
    UNLABELLED = "unlabelled"
    LABELLED = "labelled"

    @property
    def rank(self) -> int:
        """0, 1 or 2: higher may use more."""
        return list(Tier).index(self)

    def allows(self, other: Tier) -> bool:
        """Whether an attack of tier ``other`` may play in this tier."""
        return other.rank <= self.rank
