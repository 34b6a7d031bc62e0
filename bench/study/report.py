"""A study's report: trials as parquet, curves and tables as a page, and the records that the board can take."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import altair as alt
from markupsafe import Markup

from mergearena.bench.files.tables import write_parquet
from mergearena.bench.games import archive
from mergearena.bench.runner.scratch import remove
from mergearena.bench.study.charts import SHARE, svg
from mergearena.bench.study.findings import Findings
from mergearena.bench.study.pages import write_page

PAGE, TABLE, BEST = "report.html", "trials.parquet", "best"


def write(found: Findings, folder: Path) -> None:
    """Write the report into the study's folder.

    Raises:
        OSError: the disk is full or not writable.
    """
    rows = list(trial_rows(found))
    write_parquet(folder / TABLE, rows)
    remove(folder / BEST)
    for record in found.strongest.records:
        archive.write(record, folder / BEST)
    write_page(folder / PAGE, "report.html.jinja", found=found, curves=_curves(rows), command=command(found))


def trial_rows(found: Findings) -> Iterator[dict[str, Any]]:
    """One row per trial: what it recovers on validation, and what the study had reached and taken by then."""
    unit = found.fine_tuning_flops
    best = accumulate((trial.recovered for trial in found.trials), max)
    spent = accumulate(trial.flops for trial in found.trials)
    seconds = accumulate(trial.seconds for trial in found.trials)
    totals = zip(best, spent, seconds, strict=True)
    for count, (trial, (so_far, flops, time)) in enumerate(zip(found.trials, totals, strict=True), 1):
        yield {
            "trial": count,
            "attack": trial.attack,
            "known": trial.known,
            "status": trial.status,
            "recovered": trial.recovered,
            "flops": trial.flops,
            "seconds": trial.seconds,
            "best_so_far": so_far,
            "fine_tunings_so_far": flops / unit,
            "minutes_so_far": time / 60,
        }


def command(found: Findings) -> str:
    """The command that plays the strongest pipeline again."""
    matches = "".join(f" --match {match}" for match in found.settings.matches)
    seeds = "".join(f" --seed {seed}" for seed in found.settings.seeds)
    held = f" --examples {found.settings.examples} --key {found.settings.key}"
    players = f'--defense "{found.settings.defense}" --attack "{found.strongest.trial.attack}"'
    return f"mergearena run --suite {found.settings.suite}{matches}{seeds}{held} {players}"


def _curves(rows: list[dict[str, Any]]) -> list[Markup]:
    """The best so far against trials, operations and time, and every trial as a point."""
    titles = {
        "trial": "trials",
        "fine_tunings_so_far": "operations of the attacks, in fine-tunings of one model",
        "minutes_so_far": "minutes",
    }
    data = alt.Chart(alt.Data(values=rows))
    y = alt.Y("best_so_far:Q", scale=alt.Scale(domain=[0, 1]), axis=SHARE, title="recovered, on validation")
    colour = alt.condition("datum.known", alt.value("var(--known)"), alt.value("var(--found)"))
    curves = []
    for field, title in titles.items():
        x = alt.X(f"{field}:Q", title=title, axis=alt.Axis(tickCount=6))
        points = data.mark_point(filled=True, size=28, opacity=0.7).encode(x=x, y="recovered:Q", color=colour)
        best = data.mark_line(interpolate="step-after", color="var(--found)", strokeWidth=2).encode(x=x, y=y)
        curves.append(Markup(svg(alt.layer(best, points))))
    return curves
