"""The errors a user can cause. Each message names the thing that is wrong and the remedy."""

from pathlib import Path


class ArenaError(Exception):
    """Bad input: shown as one line by the command line, never as a traceback."""


class UnknownName(ArenaError):
    """A name that nothing is registered under."""


class BadConfig(ArenaError):
    """A config key or value that a player does not accept."""


class BadPipeline(ArenaError):
    """A pipeline that does not parse, or whose stages are in the wrong order."""


class BadCheckpoint(ArenaError):
    """A checkpoint that cannot be loaded, or does not fit its architecture."""


class BadRecord(ArenaError):
    """A record that was edited, or does not validate against the schema."""

    def __init__(self, path: Path, problem: str) -> None:
        """``problem``: which field, and what is wrong with it."""
        super().__init__(f"{path}: {problem}. Delete the file and run again to replay it.")
        self.problem = problem


class TierViolation(ArenaError):
    """A player asked for data that its tier does not allow."""


class UnsupportedArchitecture(ArenaError):
    """A model with layers whose symmetries are not known."""


class ArenaWarning(UserWarning):
    """Something a player could not do well; noted in its record and shown with the result."""


class RankWarning(ArenaWarning):
    """Matrices that look rank-deficient, so that something was left as it was."""
