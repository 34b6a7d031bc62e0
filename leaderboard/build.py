"""Records -> board: a pure function. The same records give the same bytes, in any order, on any machine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import jsonschema

from bench.cost import Cost
from bench.flags import Flag, References, find_flags
from bench.game import Tier
from bench.records import Record
from bench.scoring import (
    MINIMUM_FIDELITY,
    Reference,
    bootstrap,
    group,
    merged_accuracy,
    reference,
    worst_case,
)
from leaderboard.board import (
    AttackPart,
    CellPart,
    DefensePart,
    FailurePart,
    FlagPart,
    IntervalPart,
    Leaderboard,
    MatchPart,
    ProtocolPart,
    ReferencePart,
    SuiteBoard,
    WorstPart,
)

SCHEMA = Path(__file__).with_name("schema.json")


def build(records: Iterable[Record]) -> Leaderboard:
    """The board of these records."""
    ordered = sorted(records, key=lambda r: r.id)
    by_suite = group(ordered, lambda r: r.suite)
    return Leaderboard(suites=tuple(_Suite(by_suite[name]).board(name) for name in sorted(by_suite)))


def to_json(board: Leaderboard) -> str:
    """The board's text, checked against the committed schema.

    Raises:
        jsonschema.ValidationError: the board does not fit the schema.
    """
    data = board.model_dump(mode="json")
    jsonschema.validate(data, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def schema_json() -> str:
    """The JSON Schema of the board, as committed."""
    return json.dumps(Leaderboard.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_schema() -> None:
    """Write ``schema.json`` anew, after a change of the data model."""
    SCHEMA.write_text(schema_json(), encoding="utf-8")


class _Suite:
    """The records of one suite, indexed."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.releases = [r for r in records if r.kind == "release"]
        self.attacks = [r for r in records if r.kind == "attack"]
        self.at = group(self.attacks, lambda r: ("+".join(r.tasks), r.seed))
        self.references: References = {
            where: {tier: ref for tier in Tier if (ref := reference(here, tier)) is not None}
            for where, here in self.at.items()
        }
        self.flags = find_flags(records, self.references)
        self.defenses = sorted({r.defense for r in records})
        self.worst = {defense: list(self._worst(defense)) for defense in self.defenses}
        self.worst_by_weights = {d: list(self._worst(d, extraction=False)) for d in self.defenses}

    def board(self, name: str) -> SuiteBoard:
        return SuiteBoard(
            suite=name,
            protocol=self._protocol(),
            defenses=self._defense_rows(),
            attacks=self._attack_rows(),
            cells=self._cells(),
            matches=tuple(self._match(*where) for where in sorted(self.at)),
            flags=tuple(FlagPart(**vars(flag)) for flag in self.flags),
            failures=self._failures(),
        )

    def _protocol(self) -> ProtocolPart:
        provenance = [r.provenance for r in self.records]
        names = sorted({name for p in provenance for name in p.packages})
        return ProtocolPart(
            examples=tuple(sorted({r.examples for r in self.records})),
            keys=tuple(sorted({r.key for r in self.records})),
            seeds=tuple(sorted({r.seed for r in self.records})),
            devices=tuple(sorted({p.device for p in provenance})),
            packages={n: tuple(sorted({p.packages[n] for p in provenance if n in p.packages})) for n in names},
            dates=(min(p.date for p in provenance), max(p.date for p in provenance)),
            records=len(self.records),
        )

    def _reference_of(self, record: Record) -> Reference | None:
        """The reference of a record's own tier, if its match has something to steal there."""
        assert record.tier is not None
        found = self.references[("+".join(record.tasks), record.seed)].get(record.tier)
        return found if found is not None and found.is_match else None

    def _worst(self, defense: str, extraction: bool = True) -> Iterable[WorstPart]:
        for (match, seed), here in sorted(self.at.items()):
            for tier, ref in self.references[match, seed].items():
                against = [
                    r
                    for r in here
                    if r.defense == defense and r.tier and tier.allows(r.tier) and (extraction or not r.extraction)
                ]
                if ref.is_match and any(r.uses_victim and r.accuracy for r in against):
                    strongest = worst_case(against, ref)
                    yield WorstPart(
                        match=match, seed=seed, tier=tier, attack=strongest.attack, recovered=strongest.recovered
                    )

    def _defense_rows(self) -> tuple[DefensePart, ...]:
        """Rows by resistance per tier, then protected accuracy, then cost; whoever overlaps a group's first ties."""

        def order(row: DefensePart) -> tuple[object, ...]:
            means = [-row.resistance[tier].mean if tier in row.resistance else 1.0 for tier in Tier]
            flops = row.protect_cost.flops if row.protect_cost else 0
            return row.unranked_because is not None, *means, -(row.protected_accuracy or 0), flops, row.defense

        rows = sorted(map(self._defense_row, self.defenses), key=order)
        rank, lead = 0, None
        for place, row in enumerate(rows):
            if row.unranked_because is None:
                mine = row.resistance[Tier.DATA_FREE]
                if lead is None or mine.high < lead.low:
                    rank, lead = place + 1, mine
                rows[place] = row.model_copy(update={"rank": rank})
        return tuple(rows)

    def _defense_row(self, defense: str) -> DefensePart:
        resistance = _resistance(self.worst[defense])
        releases = [r for r in self.releases if r.defense == defense]
        finished = [(r, r.accuracy.test[r.victim]) for r in releases if r.accuracy]
        unprotected = {
            (r.victim, r.seed): r.accuracy.test[r.victim] for r in self.releases if r.defense == "none" and r.accuracy
        }
        fidelities = [a / unprotected[r.victim, r.seed] for r, a in finished if unprotected.get((r.victim, r.seed))]
        fidelity = fmean(fidelities) if fidelities else None
        reason = None
        if len(finished) < len(releases):
            reason = f"{len(releases) - len(finished)} of {len(releases)} releases failed"
        elif Tier.DATA_FREE not in resistance:
            reason = "no finished attack on a match with something to steal"
        elif fidelity is None or min(fidelities) < MINIMUM_FIDELITY:
            reason = f"fidelity under {MINIMUM_FIDELITY}"
        differences = [r.logit_difference for r, _ in finished if r.logit_difference is not None]
        return DefensePart(
            rank=None,
            unranked_because=reason,
            defense=defense,
            resistance=resistance,
            resistance_of_weights=_resistance(self.worst_by_weights[defense]),
            protected_accuracy=_mean(a for _, a in finished),
            finetuned_accuracy=_mean(
                unprotected[r.victim, r.seed] for r in releases if (r.victim, r.seed) in unprotected
            ),
            fidelity=fidelity,
            logit_difference=max(differences, default=None),
            claims_function=all(r.claims_function for r in releases) if releases else None,
            protect_cost=_mean_cost([r for r, _ in finished]),
            relative_protect_cost=_mean(r.relative_cost for r, _ in finished),
            worst=tuple(self.worst[defense]),
            flags=_names(f for f in self.flags if f.defense == defense and (f.attack is None or defense != "none")),
        )

    def _attack_rows(self) -> tuple[AttackPart, ...]:
        against = [d for d in self.defenses if d != "none"]
        cases = [w for d in against for w in self.worst[d]]
        rows = []
        for (attack, tier), here in group(self.attacks, lambda r: (r.attack, r.tier)).items():
            assert attack is not None
            assert tier is not None
            own_tier = [w for w in cases if w.tier == tier]
            finished = [r for r in here if r.accuracy]
            rows.append(
                AttackPart(
                    attack=attack,
                    tier=tier,
                    uses_victim=here[0].uses_victim,
                    extraction=here[0].extraction,
                    recovered=_mean(self._recovered(r for r in finished if r.defense != "none" and r.uses_victim)),
                    strongest_share=_mean(float(w.attack == attack) for w in own_tier) if here[0].uses_victim else None,
                    merged_accuracy=_mean(merged_accuracy(r.accuracy.test) for r in finished if r.accuracy),
                    relative_cost=_mean(r.relative_cost for r in finished),
                    cost=_mean_cost(finished),
                    failures=len(here) - len(finished),
                    flags=_names(f for f in self.flags if f.attack == attack),
                )
            )

        def order(row: AttackPart) -> tuple[object, ...]:
            return not row.uses_victim, -(row.recovered or 0), row.relative_cost or 0, row.attack

        return tuple(sorted(rows, key=order))

    def _recovered(self, records: Iterable[Record]) -> Iterable[float]:
        for r in records:
            ref = self._reference_of(r)
            if ref is not None and r.accuracy is not None:
                yield ref.points.recovered(r.victim, r.accuracy.test)

    def _cells(self) -> tuple[CellPart, ...]:
        cells = []
        for (defense, attack), here in group(self.attacks, lambda r: (r.defense, r.attack)).items():
            assert attack is not None
            tests = [(r, r.accuracy.test) for r in here if r.accuracy]
            refs = [(r, test, ref) for r, test in tests if (ref := self._reference_of(r)) is not None]
            cells.append(
                CellPart(
                    defense=defense,
                    attack=attack,
                    tier=here[0].tier or Tier.DATA_FREE,
                    plays=len(here),
                    status=dict(sorted(Counter(r.status for r in here).items())),
                    qualified=sum(ref.points.qualifies(r.victim, test) for r, test, ref in refs),
                    recovered=_mean(self._recovered(here)) if here[0].uses_victim else None,
                    merged_accuracy=_mean(merged_accuracy(test) for _, test in tests),
                    victim_accuracy=_mean(test[r.victim] for r, test in tests),
                    donor_accuracy=_mean(fmean(test[d] for d in r.donors) for r, test in tests),
                    relative_cost=_mean(r.relative_cost for r, _ in tests),
                )
            )
        return tuple(sorted(cells, key=lambda c: (c.defense, c.attack)))

    def _match(self, match: str, seed: int) -> MatchPart:
        record = self.at[match, seed][0]
        finetuned = [
            r.accuracy.test[r.victim]
            for r in self.releases
            if r.accuracy and r.defense == "none" and (r.victim, r.seed) == (record.victim, seed)
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
                for tier, ref in self.references[match, seed].items()
            },
        )

    def _failures(self) -> tuple[FailurePart, ...]:
        failed = [r for r in self.records if r.status != "ok"]
        rows = [
            FailurePart(
                kind=r.kind,
                match="+".join(r.tasks),
                seed=r.seed,
                defense=r.defense,
                attack=r.attack,
                status=r.status,
                reason=r.reason or "",
            )
            for r in failed
        ]
        return tuple(sorted(rows, key=lambda f: (f.defense, f.attack or "", f.match, f.seed)))


def _resistance(worst: Iterable[WorstPart]) -> dict[str, IntervalPart]:
    """Tier -> 1 - mean worst case."""
    found = {}
    for tier, cases in group(worst, lambda w: w.tier).items():
        by_match = group(cases, lambda w: w.match).values()
        interval = bootstrap([[1 - w.recovered for w in here] for here in by_match])
        found[tier] = IntervalPart(mean=interval.mean, low=interval.low, high=interval.high, matches=len(cases))
    return found


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return fmean(values) if values else None


def _mean_cost(records: Sequence[Record]) -> Cost | None:
    """Field-wise mean; peaks are maxima; counts are rounded."""
    if not records:
        return None
    costs = [r.cost for r in records]
    fields: dict[str, float] = {}
    for name, info in Cost.model_fields.items():
        values = [getattr(cost, name) for cost in costs]
        value = max(values) if name.startswith("peak_") else fmean(values)
        fields[name] = value if info.annotation is float else round(value)
    return Cost.model_validate(fields)


def _names(flags: Iterable[Flag]) -> tuple[str, ...]:
    return tuple(sorted({flag.name for flag in flags}))
