"""The order to play the backdoor game in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mergearena.bench.errors import ArenaError
from mergearena.bench.games.backdoor.pipeline import Merger
from mergearena.bench.games.backdoor.play import Play
from mergearena.bench.games.backdoor.players import Backdoor
from mergearena.bench.games.backdoor.record import Match
from mergearena.bench.records.protocol import Protocol


def plan(
    protocol: Protocol,
    matches: Iterable[Match],
    seeds: Sequence[int],
    attacks: Sequence[Backdoor],
    mergers: Sequence[Merger],
) -> list[Play]:
    """Every merger against clean contributors and against every attack, contributions first.

    An attack that needs more uploads than a match has malicious contributors takes the next ones, too.

    Raises:
        ArenaError: a match leaves no contributor clean.
    """
    plays: list[Play] = []
    distinct = dict.fromkeys(mergers)
    for match in matches:
        for seed in seeds:
            plays += [Play(protocol=protocol, seed=seed, contributors=match.tasks, defense=m) for m in distinct]
            for attack in dict.fromkeys(attacks):
                malicious = max(match.malicious, attack.uploads)
                if malicious >= len(match.tasks):
                    raise ArenaError(
                        f"match {match.spelling}: {attack.spelling} makes {malicious} uploads, which leaves no clean "
                        "contributor; name more tasks"
                    )
                upload = Play(
                    protocol=protocol,
                    seed=seed,
                    contributors=match.tasks,
                    malicious=malicious,
                    attack=attack,
                )
                plays.append(upload)
                plays += [replace(upload, defense=merger) for merger in distinct]
    return sorted(plays, key=lambda play: play.kind == "merge")
