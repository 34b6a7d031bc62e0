"""The rows of one suite's board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from mergearena.bench.games.match import spell
from mergearena.bench.games.protection import Record
from mergearena.bench.games.protection.flags import Flag
from mergearena.bench.games.protection.scoring import MINIMUM_FIDELITY, merged_score
from mergearena.bench.games.statistics import bootstrap, group
from mergearena.bench.players.tier import Tier
from mergearena.leaderboard.board.parts import FailurePart, FlagPart, IntervalPart
from mergearena.leaderboard.board.shared import mean, mean_cost, protocol
from mergearena.leaderboard.protection.index import Index
from mergearena.leaderboard.protection.parts import (
    AttackPart,
    CellPart,
    DefensePart,
    MatchPart,
    ReferencePart,
    ReleasePart,
    RoundPart,
    SuiteBoard,
    WorstPart,
)


def suite_board(name: str, records: Sequence[Record]) -> SuiteBoard:
    """The whole board of one suite."""
    index = Index(records)
    return SuiteBoard(
        metric=records[0].metric,
        suite=name,
        protocol=protocol(index.records),
        defenses=_defense_rows(index),
        attacks=_attack_rows(index),
        cells=_cells(index),
        matches=tuple(_match(index, *where) for where in sorted(index.at)),
        flags=tuple(FlagPart(**vars(flag)) for flag in index.flags),
        failures=_failures(index),
    )


def _defense_rows(index: Index) -> tuple[DefensePart, ...]:
    """Rows by resistance per tier, then protected score, then cost; whoever overlaps a group's first ties."""

    def order(row: DefensePart) -> tuple[object, ...]:
        means = [-row.resistance[tier].mean if tier in row.resistance else 1.0 for tier in Tier]
        flops = row.protect_cost.flops if row.protect_cost else 0
        return row.unranked_because is not None, *means, -(row.protected_score or 0), flops, row.defense

    rows = sorted((_defense_row(index, d) for d in index.defenses), key=order)
    rank, lead = 0, None
    for place, row in enumerate(rows):
        if row.unranked_because is None:
            mine = row.resistance[Tier.DATA_FREE]
            if lead is None or mine.high < lead.low:
                rank, lead = place + 1, mine
            rows[place] = row.model_copy(update={"rank": rank})
    return tuple(rows)


def _defense_row(index: Index, defense: str) -> DefensePart:
    resistance = resistances(index.worst[defense])
    releases = [r for r in index.releases if r.defense == defense]
    finished = [(r, r.score.test[r.victim]) for r in releases if r.score]
    unprotected = {
        (r.victim, r.seed): r.score.test[r.victim] for r in index.releases if r.defense == "none" and r.score
    }
    fidelities = [
        (a / unprotected[r.victim, r.seed], r.victim) for r, a in finished if unprotected.get((r.victim, r.seed))
    ]
    least, lost = min(fidelities, default=(None, None))
    reason = None
    if len(finished) < len(releases):
        reason = f"{len(releases) - len(finished)} of {len(releases)} releases failed"
    elif Tier.DATA_FREE not in resistance:
        reason = "no finished attack on a match with something to steal"
    elif missing := index.contested - {w.match for w in index.worst[defense] if w.tier == Tier.DATA_FREE}:
        reason = f"not evaluated on {len(missing)} of {len(index.contested)} matches: {', '.join(sorted(missing)[:3])}"
    elif least is None:
        reason = "the unprotected victim's score is not known"
    elif least < MINIMUM_FIDELITY:
        reason = f"fidelity under {MINIMUM_FIDELITY}: {least:.3f} on {lost}"
    differences = [r.logit_difference for r, _ in finished if r.logit_difference is not None]
    return DefensePart(
        rank=None,
        unranked_because=reason,
        defense=defense,
        resistance=resistance,
        resistance_of_weights=resistances(index.worst_by_weights[defense]),
        protected_score=mean(a for _, a in finished),
        finetuned_score=mean(unprotected[r.victim, r.seed] for r in releases if (r.victim, r.seed) in unprotected),
        fidelity=mean(share for share, _ in fidelities),
        logit_difference=max(differences, default=None),
        claims_function=all(r.claims_function for r in releases) if releases else None,
        protect_cost=mean_cost([r for r, _ in finished]),
        relative_protect_cost=mean(r.relative_cost for r, _ in finished),
        releases=tuple(
            ReleasePart(
                victim=r.victim,
                seed=r.seed,
                score=score,
                fidelity=score / before if (before := unprotected.get((r.victim, r.seed))) else None,
                logit_difference=r.logit_difference,
            )
            for r, score in sorted(finished, key=lambda pair: (pair[0].victim, pair[0].seed))
        ),
        worst=tuple(index.worst[defense]),
        history=tuple(_history(index, defense)),
        flags=_names(f for f in index.flags if f.defense == defense and (f.attack is None or defense != "none")),
    )


def _history(index: Index, defense: str) -> Iterator[RoundPart]:
    rounds = group((r for r in index.against.get(defense, ()) if r.uses_victim), lambda r: r.round)
    for number, here in sorted(rounds.items()):
        dates = [r.provenance.date for r in here]
        worst = index.worst_of(defense, latest=number) if number < max(rounds) else index.worst[defense]
        yield RoundPart(
            round=number,
            dates=(min(dates), max(dates)),
            attacks=tuple(sorted({r.attack for r in here if r.attack})),
            resistance={tier: _mean_resistance(cases) for tier, cases in group(worst, lambda w: w.tier).items()},
        )


def _attack_rows(index: Index) -> tuple[AttackPart, ...]:
    against = [d for d in index.defenses if d != "none"]
    cases = [w for d in against for w in index.worst[d]]
    rows = []
    for (attack, tier), here in group(index.attacks, lambda r: (r.attack, r.tier)).items():
        assert attack is not None
        assert tier is not None
        own_tier = [w for w in cases if w.tier == tier]
        finished = [r for r in here if r.score]
        scored = [r for r in finished if r.uses_victim and r.defense != "none" and index.reference_of(r)]
        rows.append(
            AttackPart(
                attack=attack,
                tier=tier,
                uses_victim=here[0].uses_victim,
                extraction=here[0].extraction,
                recovered=mean(index.recovered(scored)),
                defenses_met=len({r.defense for r in scored}),
                strongest_share=mean(float(w.attack == attack) for w in own_tier) if here[0].uses_victim else None,
                merged_score=mean(merged_score(r.score.test) for r in finished if r.score),
                relative_cost=mean(r.relative_cost for r in finished),
                cost=mean_cost(finished),
                failures=len(here) - len(finished),
                flags=_names(f for f in index.flags if f.attack == attack),
            )
        )

    def order(row: AttackPart) -> tuple[object, ...]:
        return not row.uses_victim, -row.defenses_met, -(row.recovered or 0), row.relative_cost or 0, row.attack

    return tuple(sorted(rows, key=order))


def _cells(index: Index) -> tuple[CellPart, ...]:
    cells = []
    for (defense, attack), here in group(index.attacks, lambda r: (r.defense, r.attack)).items():
        assert attack is not None
        tests = [(r, r.score.test) for r in here if r.score]
        refs = [(r, test, ref) for r, test in tests if (ref := index.reference_of(r)) is not None]
        cells.append(
            CellPart(
                defense=defense,
                attack=attack,
                tier=here[0].tier or Tier.DATA_FREE,
                plays=len(here),
                status=dict(sorted(Counter(r.status for r in here).items())),
                qualified=sum(ref.points.qualifies(r.victim, test) for r, test, ref in refs),
                recovered=mean(index.recovered(here)) if here[0].uses_victim else None,
                merged_score=mean(merged_score(test) for _, test in tests),
                victim_score=mean(test[r.victim] for r, test in tests),
                donor_score=mean(fmean(test[d] for d in r.donors) for r, test in tests),
                relative_cost=mean(r.relative_cost for r, _ in tests),
            )
        )
    return tuple(sorted(cells, key=lambda c: (c.defense, c.attack)))


def _match(index: Index, match: str, seed: int) -> MatchPart:
    record = index.at[match, seed][0]
    finetuned = [
        r.score.test[r.victim]
        for r in index.releases
        if r.score and r.defense == "none" and (r.victim, r.seed) == (record.victim, seed)
    ]
    return MatchPart(
        match=match,
        victim=record.victim,
        donors=record.donors,
        seed=seed,
        finetuned=finetuned[0] if finetuned else None,
        tiers={
            tier: ReferencePart(
                floor=ref.points.floor,
                ceiling=ref.points.ceiling,
                donor_ceiling=ref.points.donor_ceiling,
                floor_by=ref.floor_by,
                ceiling_by=ref.ceiling_by,
                is_match=ref.is_match,
            )
            for tier, ref in index.references[match, seed].items()
        },
    )


def _failures(index: Index) -> tuple[FailurePart, ...]:
    failed = [r for r in index.records if r.status != "ok"]
    rows = [
        FailurePart(
            kind=r.kind,
            match=spell(r.tasks),
            seed=r.seed,
            defense=r.defense,
            attack=r.attack,
            status=r.status,
            reason=r.reason or "",
        )
        for r in failed
    ]
    return tuple(sorted(rows, key=lambda f: (f.defense, f.attack or "", f.match, f.seed)))


def _mean_resistance(cases: Iterable[WorstPart]) -> float:
    by_match = group(cases, lambda w: w.match).values()
    return fmean(fmean(1 - w.recovered for w in here) for here in by_match)


def resistances(worst: Iterable[WorstPart]) -> dict[str, IntervalPart]:
    """Tier -> 1 - mean worst case."""
    found = {}
    for tier, cases in group(worst, lambda w: w.tier).items():
        by_match = group(cases, lambda w: w.match).values()
        interval = bootstrap([[1 - w.recovered for w in here] for here in by_match])
        found[tier] = IntervalPart(mean=interval.mean, low=interval.low, high=interval.high, matches=len(cases))
    return found


def _names(flags: Iterable[Flag]) -> tuple[str, ...]:
    return tuple(sorted({flag.name for flag in flags}))
