"""The whole board."""

from __future__ import annotations

from typing import Literal

from mergearena.leaderboard.backdoor.parts import BackdoorBoard
from mergearena.leaderboard.board.parts import Part, PlayerPart, SubmissionPart
from mergearena.leaderboard.protection.parts import SuiteBoard


class Leaderboard(Part):
    """The whole board: one board per track and suite."""

    schema_version: Literal[6] = 6
    protection: tuple[SuiteBoard, ...]
    backdoor: tuple[BackdoorBoard, ...] = ()
    players: tuple[PlayerPart, ...] = ()
    submissions: tuple[SubmissionPart, ...] = ()
