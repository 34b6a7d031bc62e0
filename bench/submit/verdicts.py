"""What the runs of a player say of it: one gate each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

from mergearena.bench.games.protection.flags import LOGIT_TOLERANCE
from mergearena.bench.submit import toys
from mergearena.bench.submit.runs import TOYS, Runs

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Gate:
    """One line of the check."""

    name: str
    status: Status
    detail: str = ""
    remedy: str = ""


_TIER, _FORM, _INPUTS = ("TierViolation",), ("BadCheckpoint",), ("WroteInput",)
_BARRED = ("PermissionError",)


def runs_everywhere(runs: Runs) -> Gate:
    """It finished, or said clearly that it does not apply; and not the latter everywhere."""
    title = "runs on a toy of each architecture family"
    for (family, _), outcome in runs.outcomes.items():
        if outcome.status == "failed" and outcome.error not in (*_TIER, *_FORM, *_INPUTS, *_BARRED):
            remedy = "name no parameter: view.architecture lists MLPs, attention layers and norms of any model"
            return Gate(title, "failed", f"{family}: {outcome.reason}", remedy)
    if not any(outcome.status == "ok" for outcome in runs.outcomes.values()):
        return Gate(title, "skipped", "see below")
    refused = f"; refuses {', '.join(runs.refused)}" if runs.refused else ""
    return Gate(title, "passed", ", ".join(f for f in toys.FAMILIES if f not in runs.refused) + refused)


def form(runs: Runs) -> Gate:
    """What it returned is a model of the suite."""
    title = "returns the same keys, shapes and dtypes, all finite"
    if found := runs.failing(*_FORM):
        return Gate(title, "failed", ": ".join(found), "start from dict(victim) and replace tensors in it")
    return _if_any(runs, title)


def tier(runs: Runs) -> Gate:
    """It asked for nothing beyond its tier, and touched no file or process."""
    title = "keeps to its tier and to what it is shown"
    if found := runs.failing(*_TIER):
        return Gate(title, "failed", ": ".join(found), 'declare what it reads, as in tier="labelled"')
    if found := runs.failing(*_BARRED):
        return Gate(title, "failed", ": ".join(found), "read through the view, and write to no file")
    gate = _if_any(runs, title)
    reads = str(runs.entry.player.traits["tier"]) if runs.entry.reads else ""
    return replace(gate, detail=gate.detail or reads)


def limits(runs: Runs) -> Gate:
    """It ended in time and within its memory."""
    title = "keeps to the limits"
    if found := runs.failing(statuses=("timeout", "memory", "crashed")):
        remedy = (
            f"on a toy, {TOYS.seconds:g} s, {TOYS.memory_gib:g} GiB and one process are plenty; return, do not exit"
        )
        return Gate(title, "failed", ": ".join(found), remedy)
    gate = _if_any(runs, title)
    spent = [outcome.fields["cost"] for outcome in runs.outcomes.values() if outcome.status == "ok"]
    if gate.status != "passed":
        return gate
    return replace(gate, detail=f"at most {max(cost.wall_seconds for cost in spent):.1f} s on a toy")


def inputs(runs: Runs) -> Gate:
    """It wrote to nothing that it was handed."""
    title = "leaves its inputs untouched"
    if found := runs.failing(*_INPUTS):
        return Gate(title, "failed", ": ".join(found), "clone what you change")
    return _if_any(runs, title)


def _if_any(runs: Runs, title: str) -> Gate:
    """Passed if some run finished."""
    finished = any(outcome.status == "ok" for outcome in runs.outcomes.values())
    return Gate(title, "passed") if finished else Gate(title, "skipped", "no run finished")


def repeats(runs: Runs) -> Gate:
    """The same seed gave the same model."""
    title = "gives the same result for the same seed"
    if runs.prints[runs.family, "first"] == runs.prints[runs.family, "again"]:
        return Gate(title, "passed")
    remedy = "draw with generator=view.generator everywhere; do not use the clock, hash() or the order of a set"
    return Gate(title, "failed", "two runs with one seed differ", remedy)


def seeds(runs: Runs) -> Gate:
    """Another seed gave another model, for a defense that draws."""
    title = "gives another result for another seed"
    same = runs.prints[runs.family, "first"] == runs.prints[runs.family, "other seed"]
    claimed = runs.entry.player.traits.get("deterministic", False)
    if same and (claimed or not runs.entry.protects):
        return Gate(title, "passed", "it draws nothing")
    if same:
        remedy = "draw from view.generator; if there is nothing to draw, say so: deterministic=True"
        return Gate(title, "failed", "whoever knows its code can repeat it", remedy)
    if claimed:
        return Gate(title, "failed", "it claims deterministic=True and is not", "leave the claim out")
    return Gate(title, "passed")


def every_model(runs: Runs) -> Gate:
    """A merge of other models was another merge, whichever of them was exchanged."""
    title = "depends on every model that it merges"
    ignored = [t for t in toys.TASKS if runs.prints[runs.family, f"another {t}"] == runs.prints[runs.family, "first"]]
    if not ignored:
        return Gate(title, "passed")
    detail = f"{len(ignored)} of {len(toys.TASKS)} models can be exchanged and nothing changes"
    return Gate(title, "failed", detail, "merge models.values(), all of them")


def function(runs: Runs) -> Gate:
    """Its claim to preserve the function holds on every toy."""
    title = "preserves the function"
    differences = {f: o.fields["logit_difference"] for (f, run), o in runs.outcomes.items() if run == "first"}
    family, most = max(differences.items(), key=lambda pair: cast("float", pair[1]))
    if not runs.entry.player.traits.get("preserves_function"):
        return Gate(title, "skipped", f"not claimed; logits change by up to {most:.0e} relative")
    if most > LOGIT_TOLERANCE:
        remedy = "apply group elements of view.architecture, or drop the claim preserves_function"
        return Gate(title, "failed", f"{family}: logits change by {most:.0e} relative", remedy)
    return Gate(title, "passed", f"logits change by at most {most:.0e} relative")
