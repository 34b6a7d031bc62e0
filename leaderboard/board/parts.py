"""What the boards of all games are made of."""

from __future__ import annotations

from mergearena.bench.records.fields import Share, Strict


class Part(Strict):
    """Anything on a board."""


class IntervalPart(Part):
    """A mean with its 95 % bootstrap interval over matches and seeds."""

    mean: Share
    low: Share
    high: Share
    matches: int
    """Matches (times seeds) with something to steal in this tier."""

    def overlaps(self, other: IntervalPart) -> bool:
        """Whether some value lies in both intervals."""
        return self.low <= other.high and other.low <= self.high


class FlagPart(Part):
    """What to distrust."""

    name: str
    defense: str | None
    attack: str | None
    match: str
    detail: str


class FailurePart(Part):
    """A play without a result."""

    kind: str
    match: str
    seed: int
    defense: str | None
    attack: str | None
    status: str
    reason: str


class ProtocolPart(Part):
    """What was held fixed, and what ran."""

    examples: tuple[int, ...]
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    devices: tuple[str, ...]
    python: tuple[str, ...]
    packages: dict[str, tuple[str, ...]]
    code: dict[str, tuple[str, ...]]
    """Player -> identities of its code."""
    checkpoints: dict[str, tuple[str, ...]]
    """Model -> SHA-256 of its weights."""
    dates: tuple[str, str]
    """First and last."""
    records: int
    earlier_code: int
    """How many of them were made before players' code was identified as it is now: nobody can tell if it changed."""


class SuitePart(Part):
    """The board of one game on one suite: what those of all games say."""

    suite: str
    metric: str
    """What a score is, as in ``accuracy``."""
    protocol: ProtocolPart
    flags: tuple[FlagPart, ...]
    failures: tuple[FailurePart, ...]


class ShareInterval(Part):
    """A share with its 95 % bootstrap interval over matches and seeds."""

    mean: Share
    low: Share
    high: Share


class SubmissionPart(Part):
    """What somebody submitted, and who answers for it."""

    name: str
    kind: str
    """``defense``, ``attack``, or ``evaluation``: later evidence on known defenses."""
    authors: tuple[str, ...]
    paper: str
    date: str
    players: tuple[str, ...]
    """As spelled on the board."""
    code: str | None
    """SHA-256 of the file that registers them."""


class OptionPart(Part):
    """One option of a player."""

    name: str
    default: str
    """As spelled; ``required`` where there is none."""
    meaning: str


class PlayerPart(Part):
    """A player of this project that some record met, in its author's words."""

    name: str
    kind: str
    paper: str
    description: str
    """Its docstring."""
    options: tuple[OptionPart, ...]
