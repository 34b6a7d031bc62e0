"""All planted faults, group by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mergearena.bench.doctor import backdoors, files, players, plays
from mergearena.bench.doctor.finding import Finding
from mergearena.bench.errors import ArenaError
from mergearena.bench.players.roster import Roster
from mergearena.bench.players.stand_in import Declaration, standing_in
from mergearena.bench.runner.executors.limits import Limits
from mergearena.bench.submit.gates import inspect

PLANTED = Path(__file__).with_name("planted.py")
LIMITS = Limits(seconds=120.0)
MINIATURE = "mergearena.bench.doctor.miniature:Miniature"


def examine(suite: str = MINIATURE) -> Iterator[Finding]:
    """Plant every fault, in a temporary folder.

    Args:
        suite: what is played on, where a fault needs a skill to be stolen.

    Raises:
        ArenaError: the planted players could not be imported.
    """
    declared, reason = inspect(PLANTED)
    if declared is None:
        raise ArenaError(f"{PLANTED.name} cannot be imported: {reason}; install the package again")
    with TemporaryDirectory() as name, standing(declared):
        folder = Path(name)
        yield from players.findings(players.paces(PLANTED, declared, folder / "gates"))
        roster = Roster((PLANTED,), declared)
        played = plays.run(suite, LIMITS, roster, folder / "run")
        yield from plays.findings(played)
        yield from backdoors.findings(backdoors.run(suite, LIMITS, roster, folder / "backdoor"))
        yield from files.findings(played, suite, folder)


@contextmanager
def standing(declared: Iterable[Declaration]) -> Iterator[None]:
    """Stand-ins for these players, for as long as it lasts."""
    with ExitStack() as stack:
        for player in declared:
            stack.enter_context(standing_in(player))
        yield
