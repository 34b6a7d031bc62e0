"""What the boards of all tracks are made with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from mergearena.bench.records.cost import Cost
from mergearena.bench.records.record import Record
from mergearena.leaderboard.board.parts import ProtocolPart


def protocol(records: Sequence[Record]) -> ProtocolPart:
    """What was held fixed, and what ran."""
    provenance = [r.provenance for r in records]
    return ProtocolPart(
        examples=tuple(sorted({r.examples for r in records})),
        keys=tuple(sorted({r.key for r in records})),
        seeds=tuple(sorted({r.seed for r in records})),
        devices=tuple(sorted({p.device for p in provenance})),
        python=tuple(sorted({p.python for p in provenance})),
        packages=_values(p.packages for p in provenance),
        code=_values(p.code for p in provenance),
        checkpoints=_values(p.checkpoints for p in provenance),
        dates=(min(p.date for p in provenance), max(p.date for p in provenance)),
        records=len(records),
        earlier_code=sum(r.made_by_earlier_code for r in records),
    )


def _values(tables: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Name -> every value that it has in some table."""
    found: dict[str, set[str]] = {}
    for table in tables:
        for name, value in table.items():
            found.setdefault(name, set()).add(value)
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def mean(values: Iterable[float]) -> float | None:
    """Their mean, or None of none."""
    values = list(values)
    return fmean(values) if values else None


def mean_cost(records: Sequence[Record]) -> Cost | None:
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
