"""The order to play the protection game in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mergearena.bench.games.protection.pipeline import Chain, Pipeline, parse_defense
from mergearena.bench.games.protection.play import Play
from mergearena.bench.games.protection.record import Match
from mergearena.bench.records.protocol import Protocol


def plan(
    protocol: Protocol,
    matches: Iterable[Match],
    seeds: Sequence[int],
    defenses: Sequence[Chain],
    attacks: Sequence[Pipeline],
    cascade: Sequence[Pipeline] = (),
    public: Protocol | None = None,
) -> list[Play]:
    """The grid as plays, in the order to run them: references first, so that scores appear as soon as they can.

    ``none`` is always played, since it sets the ceiling; so is every baseline, once per match and seed. Releases are
    shared between matches with the same victim. The pipelines of ``cascade`` meet a defense one after the other, for
    as long as :func:`settled` says that there is something left to recover; all of them meet ``none``.

    Nothing that is played against ``none`` is secret: with a protocol of their own, ``public``, such plays can be
    shared by runs whose keys differ.
    """
    none = parse_defense("none")
    chains = dict.fromkeys([none, *defenses])
    baselines = [pipeline for pipeline in attacks if not pipeline.uses_victim]
    against = dict.fromkeys(pipeline for pipeline in attacks if pipeline.uses_victim)
    steps = dict.fromkeys(cascade)
    plays: dict[str, Play] = {}

    def put(play: Play) -> str:
        return plays.setdefault(play.id, play).id

    for match in matches:
        for seed in seeds:
            of_none = Play(protocol=public or protocol, victim=match.victim, seed=seed, defense=none)
            put(of_none)
            everything = dict.fromkeys([*baselines, *against, *steps])
            references = [put(replace(of_none, donors=match.donors, attack=attack)) for attack in everything]
            for defense in chains:
                release = of_none if defense == none else replace(of_none, protocol=protocol, defense=defense)
                put(release)
                done = [put(replace(release, donors=match.donors, attack=attack)) for attack in against]
                for step in steps if defense != none else ():
                    after = (*references, *done)
                    done.append(put(replace(release, donors=match.donors, attack=step, after=after)))
    return sorted(plays.values(), key=lambda play: (play.kind == "attack", play.defense != none))
