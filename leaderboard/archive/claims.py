"""Later evidence: a stronger attack on a defense of the board, as a pipeline or as merged weights.

A *claim* is a JSON file with ``name``, ``authors``, ``paper``, ``suite``, ``defense``, and either a pipeline of known
stages, which is played on every match that the defense was evaluated on,

.. code-block:: json

    "attack": "weight-matching > ties"

or merged models, in files beside the claim:

.. code-block:: json

    "weights": [{"file": "merged.safetensors", "match": "mnist+fashion", "seed": 0}],
    "tier": "data-free",
    "flops": 2000000000

Nothing that a claim says of score is believed: the runner plays the pipeline, and the judge reads the weights. How
weights were made cannot be replayed, which their records say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from mergearena.bench.errors import ArenaError
from mergearena.bench.files import checkpoints
from mergearena.bench.files.checkpoints import StateDict
from mergearena.bench.files.hashing import identify
from mergearena.bench.games.match import spell
from mergearena.bench.games.protection import Play, Record, judge
from mergearena.bench.games.protection.pipeline import Pipeline, parse_attack, parse_defense
from mergearena.bench.games.protection.players import Attack, AttackerView
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.player import AttackConfig
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.fields import Strict
from mergearena.leaderboard.archive.submission import BadSubmission, Name

UNVERIFIED = "handed in as weights: tier and cost are as declared, and how they were made was not replayed"


class HandedIn(Attack):
    """Merged weights: an attack that was played elsewhere."""

    name = "weights"

    class Config(AttackConfig):
        """Whose they are."""

        claim: str

    @cached_property
    def spelling(self) -> str:
        """Named after the claim."""
        return f"{self.name}({self.config.claim})"

    def attack(self, view: AttackerView) -> StateDict:
        """Nothing that could be played again."""
        raise ArenaError(f"{self.spelling} was handed in as weights and cannot be played")


class Merged(Strict):
    """One merged model."""

    file: Path
    """safetensors; relative to the claim's folder."""
    match: str
    """``victim+donor+...``"""
    seed: int


class Claim(Strict):
    """What somebody says breaks a defense."""

    name: Name
    authors: Annotated[tuple[str, ...], Field(min_length=1)]
    paper: str = ""
    suite: str
    defense: str
    attack: str | None = None
    weights: tuple[Merged, ...] = ()
    tier: Tier | None = None
    """Of weights: what was used to make them."""
    flops: NonNegativeInt | None = None
    """Of weights: operations spent on each."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.attack is None) != bool(self.weights):
            raise ValueError("a claim has either an attack or weights")
        if bool(self.weights) != (self.tier is not None and self.flops is not None):
            raise ValueError("weights come with their tier and flops, an attack has its own")
        return self

    @property
    def pipeline(self) -> Pipeline:
        """The attack."""
        return Pipeline(whole=HandedIn(claim=self.name)) if self.attack is None else parse_attack(self.attack)

    @property
    def spelling(self) -> str:
        """The attack's name on the board."""
        return self.pipeline.spelling


def read_claim(path: Path) -> Claim:
    """Read a claim.

    Raises:
        BadSubmission: it does not fit :class:`Claim`.
    """
    try:
        fields = json.loads(path.read_bytes())
        return Claim.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise BadSubmission(path, f"{where}: {first['msg'].removeprefix('Value error, ')}", "mend the claim") from None
    except ValueError as error:
        raise BadSubmission(path, f"it is not JSON ({error})", "mend the claim") from None


@dataclass(frozen=True)
class Target:
    """A release of the defense, and the attack on it that is claimed."""

    release: Play
    attack: Play
    official: Record
    """Of the release."""
    weights: Path | None

    def check(self, remade: Record) -> None:
        """See that the release is the one that the board knows.

        Raises:
            ArenaError: it could not be made again, or only by other code.
        """
        if remade.status != "ok":
            raise ArenaError(f"{self.release.title} could not be made again: {remade.reason}")
        if remade.provenance.code != self.official.provenance.code:
            defense = self.release.defense.spelling
            raise ArenaError(f"the code of {defense} has changed since; publish its records again first")


def targets(claim: Claim, folder: Path, known: Iterable[Any]) -> list[Target]:
    """What a claim is to be tried on: the matches and seeds on which ``known`` records have attacks on the defense.

    ``folder`` is the claim's.

    Raises:
        ArenaError: there are none, a named match is not among them, everything was played already, or the models here
            are not those that the records were made with.
    """
    known = [r for r in known if isinstance(r, Record) and (r.suite, r.defense) == (claim.suite, claim.defense)]
    met = {(spell(r.tasks), r.seed): r for r in known if r.attack is not None and r.uses_victim and r.round == 0}
    if not met:
        raise ArenaError(
            f"{claim.name}: the board has no attack on {claim.defense} on {claim.suite}; name one that it has"
        )
    files = {(merged.match, merged.seed): folder / merged.file for merged in claim.weights}
    if strange := sorted(files.keys() - met.keys()):
        match, seed = strange[0]
        raise ArenaError(
            f"{claim.name}: {claim.defense} was not evaluated on {match}, seed {seed}; name a match that was"
        )
    ids = {r.id: r for r in known}
    defense, found = parse_defense(claim.defense), []
    for where in files or met:
        record = met[where]
        held = protocol(record.suite, record.tasks, record.key, record.examples)
        release = Play(protocol=held, victim=record.victim, seed=record.seed, defense=defense)
        if release.id not in ids:
            raise ArenaError(f"{release.title}: not the release of the board; its models are not those installed here")
        attack = replace(release, donors=record.donors, attack=claim.pipeline)
        if attack.id not in ids:
            found.append(Target(release, attack, ids[release.id], files.get(where)))
    if not found:
        raise ArenaError(f"{claim.name}: the board has this attack on {claim.defense} already")
    return found


def judged(target: Target, release: Record, claim: Claim) -> Record:
    """The record of merged weights, from the record of the release that they are said to come from, made again here.

    Raises:
        BadCheckpoint: they are no model of the suite.
    """
    assert target.weights is not None
    state = checkpoints.load(target.weights)
    fingerprint = checkpoints.fingerprint(state)
    play = target.attack
    models = {name: play.protocol.checkpoints[name] for name in ("base", *play.tasks)} | {"merged": fingerprint}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(
        id=identify({"release": release.id, "donors": play.donors, "weights": fingerprint}),
        kind="attack",
        suite=release.suite,
        victim=play.victim,
        donors=play.donors,
        defense=play.defense.spelling,
        attack=claim.spelling,
        tier=claim.tier,
        seed=play.seed,
        key=release.key,
        metric=release.metric,
        examples=release.examples,
        round=1,
        status="ok",
        warnings=(UNVERIFIED,),
        cost=Cost(flops=claim.flops or 0),
        fine_tuning_flops=release.fine_tuning_flops,
        provenance=release.provenance.model_copy(update={"checkpoints": models, "date": now}),
        **judge(play, state),
    )


def evidence(claim: Claim, targets: Sequence[Target], played: Sequence[Any]) -> list[Record]:
    """The records of a claim, given those of the plays of its targets.

    Raises:
        ArenaError: nothing finished, or a release is not the one that the board knows.
        BadCheckpoint: merged weights are no model of the suite.
    """
    by_id = {record.id: record for record in played}
    for target in targets:
        target.check(by_id[target.release.id])
    if claim.weights:
        return [judged(target, by_id[target.release.id], claim) for target in targets]
    found = [by_id[target.attack.id].model_copy(update={"round": 1}) for target in targets]
    if all(record.status != "ok" for record in found):
        raise ArenaError(f"{claim.name}: no play of {claim.spelling} finished: {found[0].reason}")
    return found
