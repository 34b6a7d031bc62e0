"""``mergearena study``: from options to a search, its report, or a sweep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from mergearena.bench import suites
from mergearena.bench.cli.asked.study import StudyOptions
from mergearena.bench.cli.commands import zoo
from mergearena.bench.errors import ArenaError
from mergearena.bench.files import atomic
from mergearena.bench.games.match import parse_tasks
from mergearena.bench.games.protection import Match, presets
from mergearena.bench.games.protection.pipeline import parse_defense
from mergearena.bench.games.protocol import protocol
from mergearena.bench.players.plugins import load_plugin
from mergearena.bench.players.roster import Roster
from mergearena.bench.players.tier import Tier
from mergearena.bench.study.findings import Findings, findings
from mergearena.bench.study.report import BEST, PAGE, TABLE, command, write
from mergearena.bench.study.search import Budget, Search, known_within, references_within
from mergearena.bench.study.settings import Settings
from mergearena.bench.study.space import space_of
from mergearena.bench.study.trials import Trial
from mergearena.leaderboard.archive.claims import Claim
from mergearena.leaderboard.page.formats import percent, relative

CLAIM = "claim.json"
"""A study's file for ``mergearena leaderboard add``."""


def run(options: StudyOptions, console: Console) -> None:
    """Search, telling of every pipeline that is stronger than those before it; then report.

    Raises:
        ArenaError: there is nothing to search or to steal, or the folder holds another study.
    """
    roster = options.load()
    with zoo.progress(console) as progress:
        suites.get(options.suite).prepare(progress)
    folder, search = _search(options, roster)
    budget = Budget(trials=options.trials, flops=options.budget_flops, minutes=options.budget_minutes)
    console.print(f"searching against {search.settings.defense} in tier {search.settings.tier}: {search.space.summary}")
    with zoo.progress(console) as progress:
        task = progress.add_task("reference points", total=max(options.trials, len(search.known)))

        def listener(done: int, trial: Trial, best: Trial) -> None:
            progress.update(task, completed=done, description="trials")
            if trial == best:
                where = "known attack" if trial.known else f"trial {trial.number}"
                console.print(f"{100 * trial.recovered:5.1f} %  {where:<12}  {trial.attack}", highlight=False)

        search.run(budget, listener)
    report(folder, console)


def report(folder: Path, console: Console, plugins: Sequence[Path] = ()) -> None:
    """Print what a study found, and write it into its folder as a page and as parquet.

    Raises:
        ArenaError: there is no study, or no trial has ended.
    """
    for path in plugins:
        load_plugin(path)
    found = findings(folder)
    write(found, folder)
    console.print(_strongest(found))
    if found.mattered:
        console.print(_mattered(found))
    best = found.strongest
    console.print("strongest:", best.trial.attack, style="bold", highlight=False, soft_wrap=True)
    console.print(f"recovers {percent(best.test)} % on test; chosen on validation, {percent(best.trial.recovered)} %")
    if found.known:
        console.print(
            f"best known attack on test: {percent(found.known.test)} % before, {percent(found.reached)} % now "
            f"(before: {found.known.trial.attack})",
            highlight=False,
        )
    failed = [trial for trial in found.trials if trial.status != "ok"]
    if failed:
        console.print(f"{len(failed)} trials have no result on some match, the last one: {failed[-1].status}")
    console.print(f"again: {command(found)}", highlight=False, soft_wrap=True)
    console.print(f"page: {folder / PAGE}   trials: {folder / TABLE}   its records: {folder / BEST}", highlight=False)
    if not best.trial.known:
        claim = _claim(found.settings, best.trial.attack)
        atomic.write_text(folder / CLAIM, claim.model_dump_json(indent=1, exclude_defaults=True) + "\n")
        console.print(
            f"on a board: put your name into {folder / CLAIM}, then mergearena leaderboard add {folder / CLAIM}"
        )


def _strongest(found: Findings) -> Table:
    table = Table(title="the strongest pipelines, on validation", box=box.SIMPLE_HEAD, title_style="bold")
    for name in ("recovered", "cost", "pipeline"):
        table.add_column(name, justify="left" if name == "pipeline" else "right", overflow="fold")
    for trial in found.best:
        cost = relative(trial.flops / found.fine_tuning_flops)
        table.add_row(percent(trial.recovered), cost, trial.attack + " (known)" * trial.known)
    return table


def _mattered(found: Findings) -> Table:
    table = Table(title="what mattered", box=box.SIMPLE_HEAD, title_style="bold")
    table.add_column("share", justify="right")
    table.add_column("choice")
    table.add_column("what is good")
    for row in found.mattered:
        table.add_row(percent(row.share), row.name, row.detail)
    return table


def _claim(settings: Settings, attack: str) -> Claim:
    """What a board is told of a new attack, and tries itself."""
    name = re.sub(r"[^a-z0-9.]+", "-", f"study-{settings.slug}".lower())[:64]
    return Claim(
        name=name, authors=("an adaptive study",), suite=settings.suite, defense=settings.defense, attack=attack
    )


def _search(options: StudyOptions, roster: Roster) -> tuple[Path, Search]:
    """The study that the options ask for, and its folder."""
    chain, tier, tasks = parse_defense(options.defense), Tier(options.tier), tuple(suites.get(options.suite).tasks)
    if chain.spelling == "none":
        raise ArenaError("nothing protects a victim from any attack under none; name a defense to break")
    grid = presets.preset("quick", options.suite, tasks)
    named = [parse_tasks(match, options.suite, tasks) for match in options.match or ()]
    matches = [Match(options.suite, victim, tuple(donors)) for victim, *donors in named] or grid.matches
    known = known_within(tier, options.only)
    space = space_of(tier, known, options.only)
    settings = Settings(
        suite=options.suite,
        defense=chain.spelling,
        tier=tier,
        matches=tuple(match.spelling for match in matches),
        seeds=tuple(options.seed or (0,)),
        stages=tuple(sorted(options.only)),
        examples=options.examples,
        key=options.key,
        space=space.signature,
    )
    folder = options.out or Path("runs") / options.suite / "studies" / settings.slug
    return folder, Search(
        folder=folder,
        settings=settings,
        protocol=protocol(
            options.suite, dict.fromkeys(t for m in matches for t in m.tasks), options.key, options.examples
        ),
        matches=matches,
        space=space,
        known=known,
        references=references_within(tier),
        jobs=options.jobs,
        limits=options.limits,
        roster=roster,
    )
