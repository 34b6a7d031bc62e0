"""The committed board: what the folders ``records`` and ``submissions`` hold, and what is wrong with it.

Official records change through ``mergearena leaderboard publish`` alone; a submission is added by adding its folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mergearena.bench.errors import BadRecord
from mergearena.bench.files.hashing import sha256
from mergearena.bench.games import archive
from mergearena.bench.records import places, text
from mergearena.bench.records.record import Record
from mergearena.leaderboard.archive.submission import FILE, RECORDS, BadSubmission, Submission, read_submission
from mergearena.leaderboard.board.build import build
from mergearena.leaderboard.board.leaderboard import Leaderboard

BOARD = Path("leaderboard")
"""The board's folder, in a working copy."""
OFFICIAL = "records"
SUBMISSIONS = "submissions"


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a committed file, and what to do about it."""

    path: Path
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.remedy}"


@dataclass
class Committed:
    """What the board is built from."""

    records: dict[Path, Record] = field(default_factory=dict)
    """Those that count, by their files."""
    submissions: list[Submission] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def board(self) -> Leaderboard:
        """Their board."""
        return build(self.records.values(), [submission.part() for submission in self.submissions])


def survey(folder: Path) -> Committed:
    """Read a board's folder whole: records that count, and every problem, in an order that is always the same.

    A submitted defense is evaluated for the first time, as official ones are. Whatever a submitted attack or an
    evaluation adds is later evidence: each gets a round of its own, so that it can only lower a resistance.
    """
    found = Committed()
    official = folder / OFFICIAL
    found.records = dict(_read(official, places.files(official), "publish it again", found.problems))
    latest = max((record.round for record in found.records.values()), default=0)
    owners = {player: official for record in found.records.values() for player in record.provenance.code}
    for place, home in enumerate(_folders(folder / SUBMISSIONS), start=latest + 1):
        try:
            submission = read_submission(home)
        except BadSubmission as error:
            found.problems.append(Problem(home / FILE, error.problem, error.remedy))
            continue
        found.submissions.append(submission)
        found.problems += _unfit(home, submission)
        paths = [home / RECORDS / name for name in sorted(submission.records)]
        present = [path for path in paths if path.is_file()]
        remedy = "run `mergearena submit score` again"
        for path, record in _read(home / RECORDS, present, remedy, found.problems):
            if submission.counts(record):
                later = {} if submission.kind == "defense" else {"round": place}
                found.records[path] = record.model_copy(update=later)
                found.problems += _taken(home, submission, record, owners)
    found.problems += _duplicates(found.records)
    found.problems = sorted(set(found.problems))
    return found


def _read(root: Path, paths: Iterable[Path], remedy: str, problems: list[Problem]) -> Iterator[tuple[Path, Record]]:
    """The records that are whole, as the runner wrote them, and where they belong."""
    for path in paths:
        try:
            record = archive.read(path)
        except BadRecord as error:
            problems.append(Problem(path, error.problem, f"restore the file, or {remedy}"))
            continue
        if not text.is_signed(path.read_bytes()):
            problems.append(Problem(path, "it has no digest, so that an edit would not be seen", remedy))
        if (belongs := places.path_of(record, root)) != path:
            problems.append(Problem(path, "it is misplaced", f"move it to {belongs}"))
        yield path, record


def _folders(parent: Path) -> list[Path]:
    """The folders of submissions, in the order of their names; hidden ones are scratch."""
    found = parent.iterdir() if parent.is_dir() else ()
    return sorted((path for path in found if path.is_dir() and not path.name.startswith(".")), key=lambda p: p.name)


def _unfit(home: Path, submission: Submission) -> Iterator[Problem]:
    """Where a submission's files and what ``submission.json`` says of them differ."""
    if submission.name != home.name:
        yield Problem(home / FILE, f"it is named {submission.name!r}", f"rename the folder to {submission.name}")
    named = {home / RECORDS / name: digest for name, digest in submission.records.items()}
    if submission.code is not None:
        named[home / submission.code.file] = submission.code.sha256
    present = {path for path in home.rglob("*") if path.is_file() and path != home / FILE}
    for path in present - named.keys():
        yield Problem(path, f"{FILE} does not name it", "delete it, or write the submission again")
    for path, digest in named.items():
        if path not in present:
            yield Problem(path, f"it is missing, though {FILE} names it", "restore it, or write the submission again")
        elif sha256(path) != digest:
            yield Problem(path, f"its SHA-256 is not the one in {FILE}", "restore it, or write the submission again")


def _taken(home: Path, submission: Submission, record: Record, owners: dict[str, Path]) -> Iterator[Problem]:
    """A submitted player must not have the name of another's."""
    for player in submission.code.players(record) if submission.code else ():
        if owners.setdefault(player, home) != home:
            remedy = "register it under another name and write the submission again"
            yield Problem(home / FILE, f"its player {player!r} has the name of one in {owners[player]}", remedy)


def _duplicates(records: dict[Path, Record]) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for path, record in records.items():
        if (other := first.setdefault(record.id, path)) != path:
            yield Problem(path, f"it is the same play as {other}", "delete one of the two")
