"""Synthetic records: valid and small, and different exactly where a test says so."""

from typing import Any

from mergearena.bench.files.hashing import identify
from mergearena.bench.games.protection import Record
from mergearena.bench.players.tier import Tier
from mergearena.bench.records.cost import Cost
from mergearena.bench.records.record import Provenance, Scores

NAIVE = "identity > task-arithmetic"
ALIGNED = "weight-matching > ties"

_PROVENANCE = Provenance(
    code={"none": "c" * 64},
    checkpoints={"base": "b" * 64},
    packages={"torch": "1.2.3"},
    python="1.2.3",
    device="cpu",
    threads=1,
    date="2025-01-01T00:00:00+00:00",
)


def make_record(
    *, test: tuple[float, ...] | None = None, validation: tuple[float, ...] | None = None, **changes: Any
) -> Record:
    """A finished attack on an unprotected victim, changed as told; ``attack=None`` makes it a release.

    ``test`` and ``validation`` are scores in the order of the tasks; validation is test's if left out.
    """
    fields: dict[str, Any] = {
        "suite": "toy",
        "victim": "v",
        "donors": ("d",),
        "seed": 0,
        "key": "key",
        "metric": "accuracy",
        "examples": 256,
        "round": 0,
        "defense": "none",
        "attack": NAIVE,
        "status": "ok",
        "cost": Cost(flops=10),
        "evaluation_cost": Cost(),
        "fine_tuning_flops": 1000,
        "provenance": _PROVENANCE,
    } | changes
    if fields["attack"] is None:
        fields |= {"kind": "release", "donors": ()}
    else:
        fields = {"kind": "attack", "tier": Tier.DATA_FREE} | fields
    if fields["status"] == "ok":
        tasks = (fields["victim"], *fields["donors"])
        test = test or (0.9,) * len(tasks)
        shares = {"test": test, "validation": validation or test}
        named = {split: dict(zip(tasks, values, strict=True)) for split, values in shares.items()}
        fields = {"score": Scores(**named)} | fields
    else:
        fields = {"reason": "it did not finish"} | fields
    told_apart_by = ("suite", "victim", "donors", "seed", "key", "examples", "round", "defense", "attack")
    return Record(**{"id": identify({name: fields[name] for name in told_apart_by})} | fields)
