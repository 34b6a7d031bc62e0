"""What came of one planted fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A planted fault, the safeguard that should catch it, and what that said."""

    fault: str
    safeguard: str
    said: str | None
    """Of the fault; None if it kept silent."""
    alarm: str | None
    """Of the sound thing beside it; None if it kept silent, as it should."""

    @property
    def caught(self) -> bool:
        """Whether the safeguard tells the fault from what is sound."""
        return self.said is not None and self.alarm is None
