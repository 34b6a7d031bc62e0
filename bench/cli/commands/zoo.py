"""``mergearena zoo``: build, verify and list the models of a suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mergearena.bench import suites
from mergearena.bench.files import checkpoints
from mergearena.bench.suites.classification import ClassificationTask
from mergearena.bench.suites.figures import measure
from mergearena.bench.suites.splits import leaks

TOLERANCE = 0.005
"""Score by which a repeated measurement may differ: processors round differently."""


def listing(name: str) -> RenderableType:
    """A suite's tasks with their data, sources and stored figures."""
    suite = suites.get(name)
    table = Table(title=f"suite {name}", box=box.SIMPLE_HEAD, title_style="bold")
    for column in ("task", "what", "classes", "train", "validation", "test", "source", "licence"):
        table.add_column(column, justify="right" if column in ("classes", "train", "validation", "test") else "left")
    for task in suite.tasks.values():
        sizes = [str(len(suite.load(task.name, split)[1])) for split in ("train", "validation", "test")]
        classes = str(len(task.classes)) if isinstance(task, ClassificationTask) else "–"
        table.add_row(task.name, task.title, classes, *sizes, task.source, task.licence)
    figures = suite.figures()
    if figures is None:
        return Group(table, f"[yellow]not built yet:[/] mergearena zoo build --suite {name}")
    return Group(table, *_tables(figures))


def verify(name: str, console: Console) -> bool:
    """Measure a suite again, print the tables, and say whether they are the stored figures and no split leaks."""
    suite = suites.get(name)
    with progress(console) as bars:
        suite.prepare(bars)
        bar = bars.add_task("measuring merges", total=None)
        measured = measure(suite, on_merge=lambda: bars.advance(bar))
    stored = suite.figures() or {}
    console.print(*_tables(measured), sep="\n")
    differing = list(differences(stored, measured))
    for where, old, new in differing:
        console.print(f"[red]differs:[/] {where}: stored {old}, measured {new:.4f}")
    leaking = list(leaks(suite))
    for leak in leaking:
        console.print(f"[red]leaks:[/] {leak}")
    if not leaking:
        console.print("splits: no example is in two of one task's")
    hashes = {"base": suite.base(), **{task: suite.finetuned(task) for task in suite.tasks}}
    console.print("weights: " + ", ".join(f"{n} {checkpoints.fingerprint(s)[:12]}" for n, s in hashes.items()))
    verdict = "[red]figures differ[/] from" if differing else "[green]figures agree[/] with"
    console.print(f"{verdict} those stored beside the weights")
    return not differing and not leaking


def build(name: str, out: Path | None, seed: int, console: Console) -> None:
    """Train a suite's models and print their figures."""
    suite = suites.get(name)
    target = out or suite.zoo
    with progress(console) as bars:
        figures = suite.build(target, seed, bars)
    console.print(*_tables(figures), sep="\n")
    console.print(f"models: {target}")


def differences(stored: Mapping[str, Any], measured: Mapping[str, Any]) -> Iterator[tuple[str, float | None, float]]:
    """(task and model, stored, measured) wherever two sets of figures disagree by more than the tolerance."""
    for task, row in measured["tasks"].items():
        for model, score in row.items():
            old = stored.get("tasks", {}).get(task, {}).get(model)
            if old is None or abs(old - score) > TOLERANCE:
                yield f"{task} {model}", old, score


def _tables(figures: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Per task: zero-shot and fine-tuned; per pair: what merges keep; the merge of everything."""
    tasks = Table(title="test score, %", box=box.SIMPLE_HEAD, title_style="bold")
    for column in ("task", "zero-shot", "fine-tuned", "gain"):
        tasks.add_column(column, justify="left" if column == "task" else "right")
    for task, row in figures["tasks"].items():
        floor, top = row["zero_shot"], row["finetuned"]
        tasks.add_row(task, f"{100 * floor:.1f}", f"{100 * top:.1f}", f"{100 * (top - floor):.1f}")
    summary = figures["summary"]
    floor, top = summary["zero_shot"], summary["finetuned"]
    tasks.add_section()
    tasks.add_row("mean", f"{100 * floor:.1f}", f"{100 * top:.1f}", f"{100 * (top - floor):.1f}")
    yield tasks
    merges = Table(title="share of the gain that a merge keeps, %", box=box.SIMPLE_HEAD, title_style="bold")
    for column in ("merge", "coefficient", "kept"):
        merges.add_column(column, justify="left" if column == "merge" else "right")
    for pair, row in figures["pairs"].items():
        best = row["best"]
        merges.add_row(pair, f"{best['coefficient']:.1f}", f"{100 * best['recovered']:.1f}")
    merges.add_section()
    merges.add_row("pairs, coefficient chosen on validation", "", f"{100 * summary['pairs_best']:.1f}")
    merges.add_row("pairs, default coefficient", "0.8", f"{100 * summary['pairs_default']:.1f}")
    merges.add_row("pairs, average", "0.5", f"{100 * summary['pairs_average']:.1f}")
    for how, row in figures["all_tasks"].items():
        merges.add_row(f"all tasks, {how}", f"{row['coefficient']:.1f}", f"{100 * row['recovered']:.1f}")
    yield merges


def progress(console: Console) -> Progress:
    """Progress bars that vanish when done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
