"""What a notebook needs: models, defenses, attacks, boards, each in one call.

Players run in this process here, unconfined: for files that you do not trust use ``mergearena submit``, and for figures
that are to stand on a board :func:`benchmark` or ``mergearena run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

    from mergearena.bench.files.checkpoints import StateDict
    from mergearena.bench.suites.base import Suite


def load_suite(name: str = "embedded") -> Suite:
    """A base model, its fine-tuned models and their tasks; what is missing is built, which may take minutes.

    Args:
        name: ``embedded``, ``text``, ... (``mergearena list suites``), or ``module:Class`` of your own.

    Raises:
        UnknownName: there is no such suite.
    """
    from mergearena.bench import suites

    suite = suites.get(name)
    suite.prepare()
    return suite


def protect(defense: str, victim: str, *, suite: str = "embedded", seed: int = 0, key: str | None = None) -> StateDict:
    """What a defense releases: the state dict of the victim, rewritten.

    Args:
        defense: a defense or a chain of them, as in ``params(scaling=symmetric)``.
        victim: the task whose fine-tuned model is protected.
        suite: whose model.
        seed: of the defense's secret draw, with ``key``.
        key: the run key; by default that of the official board, which gives the release that the board is of.

    Raises:
        BadPipeline, UnknownName, BadConfig: the defense does not parse, or there is no such task.
        BadCheckpoint: it returned no model of the suite.
    """
    from mergearena.bench.games.protection.pipeline import parse_defense
    from mergearena.bench.games.protection.roles import protected
    from mergearena.bench.records import official

    chain, models = parse_defense(defense), load_suite(suite)
    _known(models, [victim])
    return protected(chain, models, victim, seed, official.KEY if key is None else key)


def attack(
    pipeline: str,
    released: StateDict,
    victim: str,
    donors: Sequence[str],
    *,
    suite: str = "embedded",
    seed: int = 0,
    examples: int | None = None,
) -> StateDict:
    """What an attacker makes of a released model: one merged state dict, to be scored by the suite.

    Args:
        pipeline: as in ``weight-matching+gauge-anchor > ties(density=0.2) > finetune(steps=50)``.
        released: of :func:`protect`, or any state dict with the keys and shapes of the suite's models.
        victim: the task that it was fine-tuned on.
        donors: tasks whose fine-tuned models are the attacker's own.
        suite: the models' suite.
        seed: of the attacker's draws.
        examples: k, how many examples per task the data tiers read; by default as many as officially.

    Raises:
        BadPipeline, UnknownName, BadConfig: the pipeline does not parse, or there is no such task.
        BadCheckpoint: ``released``, or what the pipeline returned, is no model of the suite.
    """
    from mergearena.bench.files.checkpoints import preflight
    from mergearena.bench.games.protection.pipeline import parse_attack
    from mergearena.bench.games.protection.roles import attacker_view, draw_examples
    from mergearena.bench.players.tier import Tier
    from mergearena.bench.records import official

    parsed, models, tasks = parse_attack(pipeline), load_suite(suite), (victim, *donors)
    _known(models, tasks)
    base = models.base()
    preflight(released, base, "the released model")
    k = official.EXAMPLES if examples is None else examples
    read = tasks if parsed.tier is not Tier.DATA_FREE else ()
    drawn = {task: draw_examples(models, task, k, seed) for task in read}
    merged = parsed.run(attacker_view(parsed, models, tasks, released, drawn, seed))
    return preflight(merged, base, f"attack {parsed.spelling}")


def benchmark(
    defenses: Sequence[str] = (),
    attacks: Sequence[str] = (),
    *,
    suite: str = "embedded",
    track: str = "protection",
    preset: str = "quick",
    matches: Sequence[str] = (),
    seeds: Sequence[int] = (),
    tier: Literal["data-free", "unlabelled", "labelled"] = "labelled",
    plugins: Sequence[Path | str] = (),
    records: Path | str | None = None,
    jobs: int | None = None,
) -> pd.DataFrame:
    """Play a grid, every player confined in a process of its own, and give its board as :func:`board` does.

    A script calls it below ``if __name__ == "__main__":``, as whatever starts processes.

    Args:
        defenses: to play instead of the preset's; in the backdoor track, mergers.
        attacks: to play instead of the preset's; baselines, which set the reference points, are added.
        suite: to play on.
        track: the game.
        preset: the grid where nothing else is said; ``mergearena list presets`` names them.
        matches: as in ``animals+mnist``.
        seeds: to play.
        tier: play no attack beyond it.
        plugins: files that register players of your own.
        records: folder of the records; those that hold are reused. By default ``runs/SUITE/records``.
        jobs: plays at a time; as many as there are cores, if None.

    Raises:
        ArenaError: something that was asked for is unknown, or does not fit.
    """
    import os

    import pandas as pd

    from mergearena.bench.games.game import games
    from mergearena.bench.games.grid import Options
    from mergearena.bench.players.plugins import load_plugin
    from mergearena.bench.players.roster import Roster
    from mergearena.bench.records import official
    from mergearena.bench.runner.executors.limits import Limits
    from mergearena.bench.runner.run import run
    from mergearena.leaderboard.board.build import build
    from mergearena.leaderboard.board.table import rows

    load_suite(suite)
    files = [Path(file) for file in plugins]
    for file in files:
        load_plugin(file)
    options = Options(
        track=track,
        suite=suite,
        preset=preset,
        defenses=tuple(defenses),
        attacks=tuple(attacks),
        matches=tuple(matches),
        malicious=1,
        tier=tier,
        seeds=tuple(seeds),
        examples=official.EXAMPLES,
        key=official.KEY,
    )
    root = Path("runs") / suite / "records" if records is None else Path(records)
    plays = games.find(track).plan(options)
    summary = run(plays, root, jobs=jobs or os.cpu_count() or 1, limits=Limits(), roster=Roster.of(files))
    return pd.DataFrame(rows(build(summary.records)))


def board(path: Path | str | None = None) -> pd.DataFrame:
    """A board as a table: a row per game, suite, ranking and ranked player, with its rank, scores and costs.

    Args:
        path: a board's JSON, such as ``runs/embedded/leaderboard.json``; by default the project's own.

    Raises:
        ArenaError: there is no such board, or it is of another version.
    """
    import pandas as pd

    from mergearena.leaderboard.board.table import COMMITTED, read, rows

    return pd.DataFrame(rows(read(COMMITTED if path is None else Path(path))))


def _known(suite: Suite, tasks: Sequence[str]) -> None:
    """Raise the error of a task that a suite has not."""
    from mergearena.bench.errors import UnknownName

    for task in tasks:
        if task not in suite.tasks:
            raise UnknownName(f"unknown task {task!r}; suite {suite.name} has: {', '.join(suite.tasks)}")
